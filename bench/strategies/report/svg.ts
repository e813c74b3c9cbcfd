/** What pictures in the report are made of: text of SVG, with nothing from elsewhere. */

/** Text as it may stand in HTML, SVG and their attributes. */
export function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

/** A picture that stands alone as well. */
const STYLE = "text { font: 12px system-ui, sans-serif; fill: #222; }";

export function svg(width: number, height: number, title: string, content: readonly string[]): string {
  const box = `viewBox="0 0 ${width} ${height}" width="${width}" height="${height}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${box} role="img" aria-label="${escaped(title)}"><title>${escaped(title)}</title><style>${STYLE}</style><rect width="100%" height="100%" fill="#fff"/>${content.join("")}</svg>`;
}

export function rect(
  x: number,
  y: number,
  width: number,
  height: number,
  fill: string,
  title = "",
  opacity = 1,
): string {
  const pale = opacity === 1 ? "" : ` fill-opacity="${opacity}"`;
  const about = title === "" ? "" : `<title>${escaped(title)}</title>`;
  return `<rect x="${at(x)}" y="${at(y)}" width="${at(width)}" height="${at(height)}" fill="${fill}"${pale}>${about}</rect>`;
}

export function text(
  x: number,
  y: number,
  content: string,
  anchor: "start" | "middle" | "end" = "start",
): string {
  return `<text x="${at(x)}" y="${at(y)}" text-anchor="${anchor}">${escaped(content)}</text>`;
}

const STROKES = {
  plain: 'stroke="#888"',
  dashed: 'stroke="#888" stroke-dasharray="4 3"',
  mark: 'stroke="#111" stroke-width="2"',
} as const;

export function line(
  x1: number,
  y1: number,
  x2: number,
  y2: number,
  stroke: keyof typeof STROKES = "plain",
): string {
  return `<line x1="${at(x1)}" y1="${at(y1)}" x2="${at(x2)}" y2="${at(y2)}" ${STROKES[stroke]}/>`;
}

export function circle(x: number, y: number, fill: string, title: string): string {
  return `<circle cx="${at(x)}" cy="${at(y)}" r="4" fill="${fill}" fill-opacity="0.7"><title>${escaped(title)}</title></circle>`;
}

/** Two decimals are finer than any screen. */
function at(value: number): string {
  return `${Math.round(value * 100) / 100}`;
}

/** Of roles, and of what runs in a timeline; told apart by those who do not see all colours. */
export const COLOURS = {
  strategy: "#4477aa",
  planner: "#228833",
  rival: "#ee6677",
  "other semantics": "#bbbbbb",
} as const;
