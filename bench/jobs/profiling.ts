/** `BENCH_PROFILE=folder`: what each side did, for a look at where its time goes. */
export function profiling(place: string): string[] {
  const folder = process.env.BENCH_PROFILE;
  return folder ? ['--cpu-prof', `--cpu-prof-dir=${folder}/${place}`] : [];
}
