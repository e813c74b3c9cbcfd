/** What cannot be planned, and plans that cannot be carried out. */

/** One line that says what was asked and what is possible. */
export class PlanError extends Error {
  readonly code = "PLAN";
  override readonly name = "PlanError";
}
