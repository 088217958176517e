type Spec = Record<string, unknown>;

export interface Difference {
  path: string;
  /** One for each run, in their order; a dash where a run does not have the value. */
  values: string[];
}

/** Returns the values in which specs differ, by path. */
export function differences(specs: readonly Spec[]): Difference[] {
  const flat = specs.map((spec) => new Map(leaves(spec)));
  const paths = [...new Set(flat.flatMap((leaf) => [...leaf.keys()]))];
  return paths
    .map((path) => ({ path, values: flat.map((leaf) => leaf.get(path) ?? "–") }))
    .filter(({ values }) => new Set(values).size > 1);
}

function leaves(part: Spec, before = ""): [string, string][] {
  return Object.entries(part).flatMap(([key, value]): [string, string][] =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? leaves(value as Spec, `${before}${key}.`)
      : [[before + key, typeof value === "string" ? value : JSON.stringify(value)]],
  );
}
