const WIDTH = 96;
const HEIGHT = 24;
const EDGE = 2;

/** A small line of a series, as large as a word. Values that are not finite leave a gap. */
export function Sparkline({ values, label }: { values: readonly (number | null)[]; label: string }) {
  const finite = values.filter((value): value is number => value !== null);
  if (finite.length < 2) return null;
  const low = Math.min(...finite);
  const range = Math.max(...finite) - low || 1;
  const points = values.map((value, index) =>
    value === null
      ? null
      : `${(EDGE + (index / (values.length - 1)) * (WIDTH - 2 * EDGE)).toFixed(1)} ${(EDGE + (1 - (value - low) / range) * (HEIGHT - 2 * EDGE)).toFixed(1)}`,
  );
  const path = points.map((point, index) => point && `${index && points[index - 1] ? "L" : "M"}${point}`).join("");
  return (
    <svg role="img" aria-label={label} width={WIDTH} height={HEIGHT} viewBox={`0 0 ${WIDTH} ${HEIGHT}`}>
      <path d={path} fill="none" stroke="var(--link)" strokeWidth="1.5" strokeLinejoin="round" strokeLinecap="round" />
    </svg>
  );
}
