/** What happened in a world, in order: a hash of everything, and the lines themselves when somebody wants to read. */

export class Trace {
  private hash = 0x811c9dc5;
  private readonly now: () => number;
  /** The events, if they are kept. */
  readonly lines: string[] | undefined;

  constructor(now: () => number, keep: boolean) {
    this.now = now;
    this.lines = keep ? [] : undefined;
  }

  /** Something worth a line. */
  note(...words: (string | number)[]): void {
    this.count(this.now());
    const line = words.join(" ");
    for (let i = 0; i < line.length; i++) this.count(line.charCodeAt(i));
    this.lines?.push(`${this.now()} ${line}`);
  }

  /** Something that counts but has no line. */
  count(value: number): void {
    this.hash = Math.imul(this.hash ^ (value | 0), 0x01000193);
    this.hash ^= this.hash >>> 15;
  }

  /** Of all events so far, in hexadecimal. */
  get digest(): string {
    return (this.hash >>> 0).toString(16).padStart(8, "0");
  }
}
