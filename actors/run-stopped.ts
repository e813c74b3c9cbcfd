/** The end of a run that was told to end before its last step: a way out, and no failure. */

export class RunStopped extends Error {
  readonly code = "STOPPED";
  override readonly name = "RunStopped";
  /** Steps that are done, of which there is a checkpoint if there are any. */
  readonly step: number;

  constructor(step: number) {
    super(`the run was told to end, and did behind step ${step}`);
    this.step = step;
  }
}
