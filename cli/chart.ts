/**
 * The loss curve as a picture: numbers in, one standalone SVG out. It has no scripts, fonts or links of its own
 * and no background, and its colours are of middle brightness, so that it reads on light pages and on dark ones.
 */

export interface Point {
  readonly step: number;
  /** In nats per byte. */
  readonly loss: number;
}

export interface LossCurve {
  readonly title: string;
  readonly train: readonly Point[];
  readonly validation: readonly Point[];
}

const WIDTH = 760;
const HEIGHT = 440;
const PLOT = { left: 64, right: WIDTH - 24, top: 64, bottom: HEIGHT - 56 };

/** Blue and orange differ for every kind of colour vision. */
const TRAIN = "#3b82f6";
const VALIDATION = "#f97316";
const TEXT = "#808894";
const GRID = "#80889440";

/** More points than this are averaged: neighbours would share a pixel. */
const MAX_POINTS = 400;

/** Beyond this ratio of largest to smallest loss the axis is logarithmic: the late, small gains stay visible. */
const LOGARITHMIC_FROM = 3;

/**
 * Draws training and validation loss over steps. The training loss is drawn twice: faintly as it was, and smoothed
 * (the mean over a fiftieth of the run). Losses that are not finite and positive are left out.
 */
export function lossChart(curve: LossCurve): string {
  const train = curve.train.filter(isDrawable);
  const validation = curve.validation.filter(isDrawable);
  const raw = thinned(train);
  const smooth = thinned(smoothed(train));
  const all = [...raw, ...validation];
  const x = stepScale(all.map(({ step }) => step));
  const y = lossScale(all.map(({ loss }) => loss));
  const path = (points: readonly Point[]) =>
    points
      .map(({ step, loss }, i) => `${i === 0 ? "M" : "L"}${place(x.at(step))} ${place(y.at(loss))}`)
      .join("");
  const line = (points: readonly Point[], colour: string, rest: string) =>
    points.length > 0 ? `<path d="${path(points)}" stroke="${colour}" ${rest}/>` : "";

  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" font-family="system-ui, -apple-system, 'Segoe UI', sans-serif" font-size="12" fill="${TEXT}">
<title>${escaped(curve.title)}</title>
<text x="${PLOT.left}" y="28" font-size="16" font-weight="600">${escaped(curve.title)}</text>
${legend(smooth, validation)}
<g stroke="${GRID}" stroke-width="1">
${y.ticks.map((tick) => `<path d="M${PLOT.left} ${place(y.at(tick))}H${PLOT.right}"/>`).join("\n")}
</g>
<g text-anchor="end">
${y.ticks.map((tick) => `<text x="${PLOT.left - 10}" y="${place(y.at(tick) + 4)}">${label(tick)}</text>`).join("\n")}
</g>
<g text-anchor="middle">
${x.ticks.map((tick) => `<text x="${place(x.at(tick))}" y="${PLOT.bottom + 20}">${label(tick)}</text>`).join("\n")}
<text x="${(PLOT.left + PLOT.right) / 2}" y="${HEIGHT - 14}">step</text>
<text transform="translate(18 ${(PLOT.top + PLOT.bottom) / 2}) rotate(-90)">loss, nats per byte${y.logarithmic ? " (log)" : ""}</text>
</g>
<g stroke="${TEXT}" stroke-width="1"><path d="M${PLOT.left} ${PLOT.bottom}H${PLOT.right}"/>${x.ticks
    .map((tick) => `<path d="M${place(x.at(tick))} ${PLOT.bottom}v5"/>`)
    .join("")}</g>
<g fill="none" stroke-linejoin="round" stroke-linecap="round">
${line(raw, TRAIN, 'stroke-width="1" opacity="0.35"')}
${line(smooth, TRAIN, 'stroke-width="2"')}
${line(validation, VALIDATION, 'stroke-width="2"')}
</g>
<g fill="${VALIDATION}">
${validation.map(({ step, loss }) => `<circle cx="${place(x.at(step))}" cy="${place(y.at(loss))}" r="3"/>`).join("\n")}
</g>
</svg>
`;
}

interface Scale {
  at(value: number): number;
  readonly ticks: readonly number[];
}

function stepScale(steps: readonly number[]): Scale {
  const low = least(steps, 0);
  const high = Math.max(most(steps, 1), low + 1);
  const across = (step: number) => PLOT.left + ((step - low) / (high - low)) * (PLOT.right - PLOT.left);
  const ticks = roundNumbers(low, high, 8).filter(Number.isInteger);
  return { at: across, ticks };
}

function lossScale(losses: readonly number[]): Scale & { readonly logarithmic: boolean } {
  const smallest = least(losses, 1);
  const largest = most(losses, 2);
  const logarithmic = largest / smallest >= LOGARITHMIC_FROM;
  // A little room, so that no line runs along the edge; a flat curve gets a tenth of its height.
  const margin = Math.max((largest - smallest) * 0.06, largest * 0.02);
  const [low, high] = logarithmic
    ? [smallest / 1.06, largest * 1.06]
    : [Math.max(0, smallest - margin), largest + margin];
  const height = logarithmic ? Math.log : (loss: number) => loss;
  const share = (loss: number) => (height(loss) - height(low)) / (height(high) - height(low));
  return {
    at: (loss) => PLOT.bottom - share(loss) * (PLOT.bottom - PLOT.top),
    ticks: logarithmic ? logarithmicNumbers(low, high) : roundNumbers(low, high, 7),
    logarithmic,
  };
}

/** Multiples of 1, 2 or 5 times a power of ten within [low, high], about `count` of them. */
function roundNumbers(low: number, high: number, count: number): number[] {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= raw) ?? 10);
  const ticks: number[] = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

/** Numbers people know, within [low, high], at distances that look alike on a logarithmic axis. */
function logarithmicNumbers(low: number, high: number): number[] {
  const wide = high / low > 30;
  const digits = wide ? [1, 2, 5] : [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8];
  const ticks: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const digit of digits) {
      const tick = Number((digit * 10 ** power).toPrecision(12));
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  return ticks;
}

function legend(train: readonly Point[], validation: readonly Point[]): string {
  const entries = [
    { name: "train", colour: TRAIN, points: train },
    { name: "validation", colour: VALIDATION, points: validation },
  ].filter(({ points }) => points.length > 0);
  return entries
    .map(({ name, colour, points }, i) => {
      const x = PLOT.left + i * 150;
      return `<path d="M${x} 46h20" stroke="${colour}" stroke-width="3" stroke-linecap="round"/><text x="${x + 28}" y="50">${name} ${points.at(-1)!.loss.toFixed(3)}</text>`;
    })
    .join("\n");
}

/**
 * Mean over the neighbours on both sides, a hundredth of the run each way. Near the first step the window shrinks
 * evenly, for the loss falls fast there; near the last one it is cut off.
 */
function smoothed(points: readonly Point[]): Point[] {
  const sums = [0];
  for (const { loss } of points) sums.push(sums.at(-1)! + loss);
  return points.map(({ step }, i) => {
    const reach = Math.min(i, Math.round(points.length / 100));
    const end = Math.min(points.length, i + reach + 1);
    return { step, loss: (sums[end]! - sums[i - reach]!) / (end - i + reach) };
  });
}

/** At most `MAX_POINTS` points, each the mean of its neighbours; the first and the last stay where they are. */
function thinned(points: readonly Point[]): readonly Point[] {
  if (points.length <= MAX_POINTS) return points;
  const inner = Array.from({ length: MAX_POINTS - 2 }, (_, i) => {
    const at = (index: number) => 1 + Math.floor((index * (points.length - 2)) / (MAX_POINTS - 2));
    const group = points.slice(at(i), at(i + 1));
    const mean = (of: (point: Point) => number) =>
      group.reduce((sum, point) => sum + of(point), 0) / group.length;
    return { step: mean(({ step }) => step), loss: mean(({ loss }) => loss) };
  });
  return [points[0]!, ...inner, points.at(-1)!];
}

const isDrawable = ({ loss }: Point) => Number.isFinite(loss) && loss > 0;
const least = (values: readonly number[], otherwise: number) =>
  values.reduce((a, b) => Math.min(a, b), values[0] ?? otherwise);
const most = (values: readonly number[], otherwise: number) =>
  values.reduce((a, b) => Math.max(a, b), values[0] ?? otherwise);
const place = (value: number) => Number(value.toFixed(2));
const label = (value: number) => String(value);
const escaped = (text: string) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
