import pg from 'pg';

/**
 * Makes the connections of a pool survivable.
 *
 * One that breaks while it is in use tells whoever uses it, by the query that fails. It also emits `error`, which
 * the pool listens to only while it lies idle: without a listener that would end the process, and a restart of
 * Postgres every process at once.
 *
 * One whose query has no answer after `silentMs` is closed, and the query fails: a half-open connection (a host
 * that is gone, a firewall that has forgotten) would hold its user for as long as TCP tries, which is a quarter of
 * an hour, or two hours for who only waits. pg's own `query_timeout` leaves the connection in use.
 *
 * @param silentMs above what the server lets a statement take; undefined: a statement may take for ever
 */
export function surviveBreaks(pool: pg.Pool, silentMs: number | undefined): void {
  pool.on('connect', (client) => {
    client.on('error', () => {});
    if (silentMs === undefined || !(client instanceof pg.Client)) return;
    const query = client.query.bind(client);
    const value = (...args: unknown[]): unknown => {
      // With a query under way it destroys the socket, and fails the query.
      const timer = setTimeout(() => void client.end(), silentMs);
      const answered = () => clearTimeout(timer);
      const callback = args.at(-1);
      if (typeof callback === 'function') {
        const told = (...outcome: unknown[]) => {
          answered();
          Reflect.apply(callback, undefined, outcome);
        };
        return Reflect.apply(query, undefined, args.with(-1, told));
      }
      const answer: unknown = Reflect.apply(query, undefined, args);
      if (answer instanceof Promise) answer.then(answered, answered);
      else answered();
      return answer;
    };
    Object.defineProperty(client, 'query', { value });
  });
}
