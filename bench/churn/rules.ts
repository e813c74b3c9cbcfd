/** What a simulated run with churn goes by, and what is found of it: types only. */

/** What takes its time besides steps, in milliseconds. */
export interface Assumed {
  /** From a device's leaving until it is known: by its closed links, or by its silence. */
  readonly closedMs: number;
  readonly silentMs: number;
  /** Of those that leave, the part that falls silent. */
  readonly silent: number;
  /** To measure a device that comes, and until its stage is compiled, both while the others work. */
  readonly profileMs: number;
  readonly startMs: number;
  /** Until a coordinator knows what all are to be told of a loss; added to round trips. */
  readonly tellMs: number;
  /** Before the end of a step, when the plan for the next one is made. */
  readonly planMs: number;
  readonly rules: Rules;
}

/** What a run does: as the runtime does it, or as it might. */
export interface Rules {
  /**
   * Who does a lost device's micro-batches again: one of its stage, which starts a stage of that device's for it, or all of
   * its stage, each some of them, where there are as many as the runtime deals them to: once all stages have come to rest; or
   * each, without waiting for others.
   */
  readonly again: "one" | "all" | "each";
  /**
   * When devices that come compile and are given what they hold: while the run stands still, so that a plan has to gain what
   * that costs; or beside the work: they compile in one step, that in which they come where there is time, are given a copy in
   * the next, in which they have nothing to do, and have work from then on.
   */
  readonly given: "between" | "beside";
  /**
   * What is left of a step is in the order of new programs for all, as in runs, which is what it is when left out; in that of the
   * step as it was begun; or in that, and whoever waits does one of the next things first whose input is there.
   */
  readonly order?: "anew" | "kept" | "ready";
}

export interface ChurnRun {
  readonly totalMs: number;
  readonly steps: number;
  /** Steps that the undisturbed run makes in that time with the devices that are there at each instant. */
  readonly idealSteps: number;
  readonly leaves: number;
  readonly joins: number;
  /** Losses of devices that had work, in a step of theirs. */
  readonly hits: number;
  /** Milliseconds in which the step was over but for what had been lost: until the last loss was known, then done again. */
  readonly detectMs: number;
  readonly replayMs: number;
  /** Standing still between steps. */
  readonly moveMs: number;
  /** Longer steps than of the undisturbed run: of whom others wait to come, and plans that are not the best. */
  readonly unevenMs: number;
  /** Bytes that those who came were given, and that copies took. */
  readonly joinedBytes: number;
  readonly copiedBytes: number;
  /** Times that no copy of something was left. */
  readonly bereft: number;
  /** By those that have come, on average, until they had work. */
  readonly waitedMs: number;
  readonly lives: number;
  /** Processor time of a decision, on average. */
  readonly decisionMs: number;
  readonly stepMs: number;
  readonly moves: number;
}
