/**
 * The thread that renews leases, with a connection of its own; lease-keeper.ts starts it. It also watches the
 * event loop of the process: one that is silent for too long loses its leases, and the process is ended, as
 * nothing in it could notice that it holds them no more.
 *
 * The end is SIGABRT (exit status 134), as from systemd's watchdog: a thread can end the process of a hung loop
 * by a signal only, SIGKILL would look like the kernel's killer when memory is short, and who allows core dumps
 * sees where the loop hung. Two cases are left to live:
 * - A loop that is debugged: its leases go all the same, and are taken again when it goes on.
 * - PID 1 of a container, which no signal of its own can end. Its leases go, `/livez` does not answer, and the
 *   loop ends the process if ever it comes back.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { connectWriter } from '../eventstore/connections.ts';
import { createLogger, type LoggerOptions } from '../telemetry/logging.ts';
import { type LeaseCell, monotonicMs } from './lease-cell.ts';
import { createPulse, createSilence } from './pulse.ts';
import { createRenewals, releaseScript, renewScript } from './renewals.ts';

export type RenewerSettings = {
  readonly redisUrl: string;
  readonly log: Pick<LoggerOptions, 'level' | 'role' | 'instanceId'>;
  readonly pulse: SharedArrayBuffer;
  readonly leaseMs: number;
  readonly renewEveryMs: number;
  readonly silentMs: number;
};

export type RenewerMessage =
  | {
      readonly kind: 'keep';
      readonly id: number;
      readonly key: string;
      readonly token: number;
      readonly cell: LeaseCell;
    }
  | { readonly kind: 'forget'; readonly id: number };

const LOOK_EVERY_MS = 500;
/** What giving the leases back may take. */
const GIVE_BACK_MS = 1_000;
const SIGNAL_MS = 2_000;

const port = parentPort;
if (!port) throw new Error('lease-renewer.ts runs in a thread of its own: see lease-keeper.ts');
const settings: RenewerSettings = workerData;
const { silentMs, renewEveryMs } = settings;
const logger = createLogger(settings.log);
const pulse = createPulse(settings.pulse);
const silence = createSilence(silentMs, monotonicMs);
const connection = connectWriter({
  url: settings.redisUrl,
  name: 'lease-renewer',
  scripts: [renewScript, releaseScript],
  onError: (err) => logger.debug({ err }, 'a connection to Redis broke'),
});
const renewals = createRenewals(connection, settings);
let hung = false;

port.on('message', (message: RenewerMessage) => {
  if (message.kind === 'forget') renewals.forget(message.id);
  else renewals.keep(message.id, message.key, message.token, message.cell);
});
connection.onReady(() => {
  pulse.setConnected(true);
  renewals.renewDue();
  port.postMessage('ready');
});
connection.redis.on('close', () => pulse.setConnected(false));
setInterval(look, Math.min(LOOK_EVERY_MS, renewEveryMs / 5, silence.lookEveryMs));

function look(): void {
  pulse.beat('renewer');
  const silentFor = silence.of(pulse.beats('loop'));
  if (silentFor <= silentMs) {
    hung = false;
    renewals.renewDue();
  } else if (!hung) {
    hung = true;
    void stopFor(silentFor);
  }
}

async function stopFor(silentFor: number): Promise<void> {
  const debugged = pulse.isDebugged();
  if (!debugged) pulse.setOver();
  // First: whatever happens now, nobody waits for these leases.
  await Promise.race([renewals.giveUp(), sleep(GIVE_BACK_MS)]);
  const fields = { silentMs: silentFor, limitMs: silentMs };
  if (debugged) {
    logger.warn(fields, 'the event loop is silent while it may be debugged: its leases were given back');
    return;
  }
  logger.fatal(fields, 'the event loop hangs: its leases were given back, and the process ends (SIGABRT)');
  process.kill(process.pid, 'SIGABRT');
  await sleep(SIGNAL_MS);
  // Somebody listens for SIGABRT, or this is PID 1.
  process.kill(process.pid, 'SIGKILL');
}
