import { InvalidArgumentError } from 'commander';

/** An option's text, of 1 to so many characters: no more is kept of such a thing anywhere. */
export function readText(longest: number): (text: string) => string {
  return (text) => {
    if (text !== '' && text.length <= longest) return text;
    throw new InvalidArgumentError(`It has 1 to ${longest} characters.`);
  };
}
