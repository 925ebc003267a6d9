// Redis and Postgres of our own, for `npm start`, the tests and the benches: real servers on loopback ports.
// Plain JavaScript for Node 20 without packages (Postgres' binaries come with the dependencies).
export { freePort, portIsFree } from './free-port.mjs';
export { removePostgres, startPostgres } from './postgres.mjs';
export { startRedis } from './redis.mjs';
