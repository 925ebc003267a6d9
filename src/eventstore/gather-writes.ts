import type { Redis } from 'ioredis';

const gathering = new WeakSet<object>();

/** For a connection whose commands leave at once: lets those of this turn that ask for it leave in one write. */
export function inOneWrite(redis: Redis): Redis {
  const { stream } = redis;
  if (redis.status === 'ready' && stream && !gathering.has(stream)) {
    gathering.add(stream);
    stream.cork();
    setImmediate(() => {
      gathering.delete(stream);
      stream.uncork();
    });
  }
  return redis;
}

/**
 * Lets all commands of one turn of the event loop leave in one write to the socket. ioredis makes a system call for
 * each: 64 readers at once cost 6.6 µs of Node and 2.3 µs of Redis for a GET, and 3.3 and 0.5 with this. (Its own
 * autopipelining waits for whole batches of replies, and costs more than it saves for some.)
 *
 * Order stays as it is. Not for blocking readers, which send one command at a time.
 */
export function gatherWrites(redis: Redis): void {
  const send = redis.sendCommand.bind(redis);
  let gathering = false;
  redis.sendCommand = (command, stream) => {
    const socket = redis.stream;
    if (!gathering && redis.status === 'ready' && socket) {
      gathering = true;
      socket.cork();
      setImmediate(() => {
        gathering = false;
        socket.uncork();
      });
    }
    return send(command, stream);
  };
}
