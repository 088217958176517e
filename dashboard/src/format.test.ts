import { describe, expect, it } from "vitest";
import { ago, bytes, duration, figure, shortTime } from "./format";

describe("figures", () => {
  it.each([
    [0, "0"],
    [2.5, "2.5"],
    [Math.PI, "3.142"],
    [12345.678, "12,346"],
    [0.00012345, "0.0001234"],
    [0.00001, "1.00e-5"],
    [-0.5, "-0.5"],
    [100, "100"],
    [null, "not finite"],
    [undefined, "–"],
    [Number.NaN, "NaN"],
  ])("%s is written as %s", (value, text) => {
    expect(figure(value)).toBe(text);
  });
});

describe("durations", () => {
  it.each([
    [0.2, "0 s"],
    [59.6, "1 min"],
    [200, "3 min 20 s"],
    [7500, "2 h 5 min"],
    [86400, "1 d"],
    [360_000, "4 d 4 h"],
  ])("%s seconds are %s", (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });

  it.each([
    [0.0441, "44.1 ms"],
    [1.44, "1.44 s"],
    [12.3456, "12.35 s"],
    [90, "1 min 30 s"],
  ])("a short time of %s seconds is %s", (seconds, text) => {
    expect(shortTime(seconds)).toBe(text);
  });
});

it("says how long ago something was, and after a day the date", () => {
  const now = Date.UTC(2026, 10, 21, 12);
  expect(ago(now / 1000 - 3, now)).toBe("just now");
  expect(ago(now / 1000 - 600, now)).toBe("10 min ago");
  expect(ago(now / 1000 - 3 * 86_400, now)).toBe("18 Nov 2026");
});

it("writes sizes in units of a thousand", () => {
  expect([bytes(0), bytes(999), bytes(1000), bytes(12_345_678)]).toEqual(["0 B", "999 B", "1.00 kB", "12.3 MB"]);
  expect([bytes(999_499), bytes(999_600), bytes(999_950_000)]).toEqual(["999 kB", "1.00 MB", "1.00 GB"]);
});
