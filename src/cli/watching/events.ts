import type { RawEvent } from '../../domain/event.ts';
import { metaOf, shownEvent } from '../../http/jobs/event.ts';
import { errorText } from '../output/errors.ts';

/** An event as the API shows it, and besides why an operator did it. */
export function eventOf(event: RawEvent) {
  const { reason } = metaOf(event);
  return { ...shownEvent(event), ...(reason === undefined ? {} : { reason }) };
}
export type ShownEvent = ReturnType<typeof eventOf>;

/** What there is to say of an event beside its type, in one line. */
export function detailOf({ data, reason }: ShownEvent): string {
  const fields = typeof data === 'object' && data !== null ? Object.entries(data) : [];
  const said = fields.flatMap(([name, value]) => {
    switch (name) {
      case 'attempt':
        return [`attempt ${value}`];
      case 'progress':
        return [`${value} %`];
      case 'error':
        return [errorText(value)];
      case 'worker':
        return [`by ${value}`];
      case 'retryAt':
      case 'runAt':
      case 'until':
        return [`until ${value}`];
      case 'recovered':
      case 'alone':
      case 'ignoredAbort':
        return value === true ? [name] : [];
      case 'result':
      case 'detail':
        return value === null ? [] : [JSON.stringify(value)];
      case 'reason':
        return [String(value)];
      default:
        return [];
    }
  });
  return [...said, ...(reason === undefined ? [] : [`“${reason}”`])].join(', ');
}
