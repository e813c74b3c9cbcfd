/**
 * Terminal output as an SVG picture, for the README. Reads text with ANSI colours on standard input:
 *
 *   tmux new-session -d -s record -x 110 -y 60 'npx bun run train; sleep 600'
 *   tmux capture-pane -e -p -t record | bun bench/picture.ts '$ npx bun run train' > docs/train.svg
 */

export {};

const ESC = String.fromCharCode(27);
const CODES = new RegExp(`(${ESC}\\[[\\d;]*m)`);
const CODE = new RegExp(`^${ESC}\\[([\\d;]*)m$`);

const COLOURS: Readonly<Record<number, string>> = {
  30: "#586069",
  31: "#f97583",
  32: "#85e89d",
  33: "#ffdf5d",
  34: "#79b8ff",
  35: "#b392f0",
  36: "#56d4dd",
  37: "#e1e4e8",
  90: "#8b949e",
};
const [WIDTH, HEIGHT, PADDING] = [8.4, 19, 18];

interface Style {
  colour: string;
  bold: boolean;
  dim: boolean;
}

/** One line of a terminal as SVG text spans. */
function spans(line: string, style: Style): string {
  let out = "";
  for (const part of line.split(CODES)) {
    const codes = CODE.exec(part);
    if (!codes) {
      const text = part.replace(/[&<>]/g, (c) => `&#${c.charCodeAt(0)};`);
      const attributes = `fill="${style.colour}"${style.bold ? ' font-weight="600"' : ""}${style.dim ? ' opacity="0.6"' : ""}`;
      if (text) out += `<tspan ${attributes}>${text}</tspan>`;
      continue;
    }
    for (const code of codes[1]!.split(";").map(Number)) {
      if (code === 0) Object.assign(style, PLAIN);
      else if (code === 1) style.bold = true;
      else if (code === 2) style.dim = true;
      else if (code === 22) Object.assign(style, { bold: false, dim: false });
      else if (code === 39) style.colour = PLAIN.colour;
      else style.colour = COLOURS[code] ?? style.colour;
    }
  }
  return out;
}

const PLAIN: Style = { colour: "#d1d5da", bold: false, dim: false };

const text = (await Bun.stdin.text()).trimEnd();
const lines = [
  `${ESC}[90m${process.argv[2] ?? ""}${ESC}[0m`,
  "",
  ...text.split("\n").map((line) => line.trimEnd()),
];
const columns = Math.max(
  ...lines.map(
    (line) =>
      line
        .split(CODES)
        .filter((part) => !CODE.test(part))
        .join("").length,
  ),
);
const [w, h] = [Math.ceil(columns * WIDTH) + 2 * PADDING, lines.length * HEIGHT + 2 * PADDING];
const style = { ...PLAIN };
console.log(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${w} ${h}" width="${w}" height="${h}">
<rect width="100%" height="100%" rx="10" fill="#0d1117"/>
<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14" xml:space="preserve">
${lines.map((line, i) => `<text x="${PADDING}" y="${PADDING + (i + 0.75) * HEIGHT}">${spans(line, style)}</text>`).join("\n")}
</g>
</svg>`);
