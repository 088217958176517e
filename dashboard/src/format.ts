/** Numbers and times as people read them. */

const MINUTE_S = 60;
const HOUR_S = 3600;
const DAY_S = 86_400;

/** `41 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < MINUTE_S) return `${whole} s`;
  if (whole < HOUR_S) return pair(whole, MINUTE_S, 1, "min", "s");
  if (whole < DAY_S) return pair(whole, HOUR_S, MINUTE_S, "h", "min");
  return pair(whole, DAY_S, HOUR_S, "d", "h");
}

function pair(seconds: number, large: number, small: number, largeName: string, smallName: string): string {
  const rest = Math.floor((seconds % large) / small);
  const head = `${Math.floor(seconds / large)} ${largeName}`;
  return rest ? `${head} ${rest} ${smallName}` : head;
}

/** A short time with its figures: `44.1 ms`, `1.44 s`; from a minute on as `duration`. */
export function shortTime(seconds: number): string {
  if (seconds < 1) return `${figure(seconds * 1000)} ms`;
  return seconds < MINUTE_S ? `${figure(seconds)} s` : duration(seconds);
}

/** `just now`, `5 min ago`, ... up to a day; then the date. */
export function ago(unixS: number, now: number = Date.now()): string {
  const passed = now / 1000 - unixS;
  if (passed < 10) return "just now";
  if (passed >= DAY_S) return day(unixS);
  if (passed < MINUTE_S) return `${Math.floor(passed)} s ago`;
  return passed < HOUR_S ? `${Math.floor(passed / MINUTE_S)} min ago` : `${Math.floor(passed / HOUR_S)} h ago`;
}

export function day(unixS: number): string {
  return new Date(unixS * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}

export function moment(unixS: number): string {
  return new Date(unixS * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
}

export function clock(unixS: number): string {
  return new Date(unixS * 1000).toLocaleTimeString("en-GB");
}

/** Four significant digits, without trailing zeros. JSON has no number that is not finite: the API sends null for it. */
export function figure(value: number | null | undefined): string {
  if (value === undefined) return "–";
  if (value === null) return "not finite";
  if (!Number.isFinite(value)) return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e15 || size < 1e-4) return value.toExponential(2).replace("e+", "e");
  if (size >= 1000) return value.toLocaleString("en-US", { maximumFractionDigits: 0 });
  return value
    .toPrecision(4)
    .replace(/(\.\d*?)0+$/, "$1")
    .replace(/\.$/, "");
}

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

export function bytes(size: number): string {
  const rounded = Number(size.toPrecision(3)); // 999,600 is 1.00 MB, not 1000 kB
  const unit = size < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(rounded) / 3));
  const scaled = size / 1000 ** unit;
  return `${unit ? scaled.toPrecision(3) : scaled} ${UNITS[unit]}`;
}

export function count(value: number): string {
  return value.toLocaleString("en-US");
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)}%`;
}
