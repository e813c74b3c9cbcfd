/** Data that cannot be learned from, and why. */

export type DataReason =
  /** A file or a part of the data that should be there is not. */
  | "missing"
  /** A file is not what it says it is, or ends early. */
  | "corrupt"
  /** A form of data that is not read here. */
  | "unsupported"
  /** It could be one thing or another. */
  | "ambiguous"
  /** Too few samples, or too few classes. */
  | "too-few"
  /** More than fits in memory. */
  | "too-large";

/** `message` is one line that names the file, says what is wrong and what would be right. */
export class DataError extends Error {
  readonly code = "DATA";
  override readonly name = "DataError";
  readonly reason: DataReason;
  readonly path: string;

  constructor(reason: DataReason, path: string, message: string) {
    super(`${path}: ${message}`);
    this.reason = reason;
    this.path = path;
  }
}
