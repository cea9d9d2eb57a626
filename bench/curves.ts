/** A candidate's line. */
export interface Curve {
  name: string;
  points: readonly (readonly [x: number, y: number])[];
}

export interface Panel {
  title: string;
  unit: string;
  curves: readonly Curve[];
}

const PANEL = { width: 420, height: 260, left: 56, right: 16, top: 40, bottom: 44 };
const COLORS = ['#0b6e4f', '#c84630', '#3066be', '#8d6a9f'];
const COLUMNS = 2;
const HEAD = 56;

/** Small charts side by side, all with the same x axis and colors, as an SVG. Axes begin at 0. */
export function drawCurves(title: string, xName: string, panels: readonly Panel[]): string {
  const rows = Math.ceil(panels.length / COLUMNS);
  const [width, height] = [PANEL.width * COLUMNS, HEAD + PANEL.height * rows];
  const names = [...new Set(panels.flatMap(({ curves }) => curves.map(({ name }) => name)))];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    text(16, 24, title, 'font-size="16" font-weight="bold"'),
    ...names.map((name, i) => legend(16 + i * 180, 44, name, colorOf(i))),
    ...panels.map((panel, i) => {
      const [x, y] = [(i % COLUMNS) * PANEL.width, HEAD + Math.floor(i / COLUMNS) * PANEL.height];
      return `<g transform="translate(${x} ${y})">${panelBody(panel, xName, names)}</g>`;
    }),
    '</svg>\n',
  ].join('\n');
}

function panelBody({ title, unit, curves }: Panel, xName: string, names: readonly string[]): string {
  const all = curves.flatMap(({ points }) => points);
  const [xTop, yTop] = [0, 1].map(axis => roundUp(Math.max(0, ...all.map(point => point[axis] ?? 0)))) as [
    number,
    number,
  ];
  const innerWidth = PANEL.width - PANEL.left - PANEL.right;
  const innerHeight = PANEL.height - PANEL.top - PANEL.bottom;
  const x = (value: number) => PANEL.left + (value / xTop) * innerWidth;
  const y = (value: number) => PANEL.top + innerHeight - (value / yTop) * innerHeight;
  const ticks = [0, 0.25, 0.5, 0.75, 1];
  return [
    text(PANEL.left, 24, `${title}, ${unit}`, 'font-weight="bold"'),
    ...ticks.map(share => {
      const at = y(share * yTop).toFixed(1);
      const line = `<line x1="${PANEL.left}" x2="${PANEL.width - PANEL.right}" y1="${at}" y2="${at}" stroke="#ddd"/>`;
      return line + text(PANEL.left - 6, Number(at) + 4, short(share * yTop), 'text-anchor="end" fill="#555"');
    }),
    ...ticks.map(share =>
      text(x(share * xTop), PANEL.height - PANEL.bottom + 16, short(share * xTop), 'text-anchor="middle" fill="#555"'),
    ),
    text(PANEL.width - PANEL.right, PANEL.height - 10, xName, 'text-anchor="end" fill="#555"'),
    ...curves.map(({ name, points }) =>
      curveBody(
        points.map(([px, py]) => [x(px), y(py)]),
        colorOf(names.indexOf(name)),
      ),
    ),
  ].join('');
}

function curveBody(points: readonly (readonly [number, number])[], color: string): string {
  const path = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`);
  const dots = points.map(([x, y]) => `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="3" fill="${color}"/>`);
  return `<polyline points="${path.join(' ')}" fill="none" stroke="${color}" stroke-width="2"/>${dots.join('')}`;
}

function legend(x: number, y: number, name: string, color: string): string {
  return `<rect x="${x}" y="${y - 9}" width="10" height="10" fill="${color}"/>${text(x + 16, y, name)}`;
}

function text(x: number, y: number, content: string, attributes = ''): string {
  const escaped = content.replace(/&/g, '&amp;').replace(/</g, '&lt;');
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${attributes}>${escaped}</text>`;
}

function colorOf(index: number): string {
  return COLORS[index % COLORS.length] ?? '#000';
}

/** The next of 1, 2, 2.5, 4, 5 and 10 times a power of ten: quarters of it are short numbers. */
function roundUp(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 2.5, 4, 5, 10].find(step => step * power >= value) ?? 10);
}

function short(value: number): string {
  return String(Number(value.toPrecision(3)));
}
