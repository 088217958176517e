/** The parts of JSON Schema that the schemas of job specs use. */
export interface Schema {
  $ref?: string;
  type?: string;
  const?: unknown;
  enum?: readonly unknown[];
  default?: unknown;
  description?: string;
  title?: string;
  properties?: Record<string, Schema>;
  required?: readonly string[];
  anyOf?: readonly Schema[];
  oneOf?: readonly Schema[];
  discriminator?: { propertyName: string; mapping: Record<string, string> };
  minimum?: number;
  maximum?: number;
  $defs?: Record<string, Schema>;
}

export type Part = Record<string, unknown>;

export interface Field {
  path: string;
  name: string;
  about: string;
  required: boolean;
  fallback: unknown;
  control: "choice" | "flag" | "line";
  choices: readonly string[];
  /** The value is a string, so the input is taken as it is; other values are parsed as YAML. */
  text: boolean;
}

export interface Section {
  path: string;
  about: string;
  fields: Field[];
}

/** The sections of a kind's form: first the fields of the job itself, then one section for each of its objects. */
export function sectionsOf(root: Schema, draft: Part): Section[] {
  const own: Section = { path: "", about: "", fields: [] };
  const sections: Section[] = [own];
  for (const [name, given] of Object.entries(root.properties ?? {})) {
    if (name === "kind") continue;
    const part = partOf(root, given, draft[name]);
    if (part)
      sections.push({
        path: name,
        about: given.description ?? part.description ?? "",
        fields: fieldsOf(root, part, name, given),
      });
    else own.fields.push(fieldOf(name, name, given, root.required?.includes(name) ?? false));
  }
  return sections;
}

function fieldsOf(root: Schema, part: Schema, path: string, given: Schema): Field[] {
  const tag = given.discriminator?.propertyName;
  const fields = Object.entries(part.properties ?? {})
    .filter(([name]) => name !== tag)
    .map(([name, schema]) =>
      fieldOf(`${path}.${name}`, name, resolved(root, schema), part.required?.includes(name) ?? false),
    );
  if (!tag) return fields;
  const choices = Object.keys(given.discriminator!.mapping);
  const fallback = (given.default as Part | undefined)?.[tag];
  const choose: Field = {
    path: `${path}.${tag}`,
    name: tag,
    about: part.description ?? "",
    required: false,
    fallback,
    control: "choice",
    choices,
    text: true,
  };
  return [choose, ...fields];
}

function resolved(root: Schema, schema: Schema): Schema {
  if (!schema.$ref) return schema;
  return { ...root.$defs?.[schema.$ref.slice(schema.$ref.lastIndexOf("/") + 1)], ...schema };
}

/** Returns the schema of an object with properties, or null; of a tagged union the member that the draft, or else the default, names. */
function partOf(root: Schema, schema: Schema, value: unknown): Schema | null {
  if (schema.discriminator && schema.oneOf) {
    const { propertyName, mapping } = schema.discriminator;
    const tag = (value as Part | undefined)?.[propertyName] ?? (schema.default as Part | undefined)?.[propertyName];
    const reference = mapping[String(tag)];
    return reference ? resolved(root, { $ref: reference }) : null;
  }
  const whole = resolved(root, schema);
  return whole.properties ? whole : null;
}

function fieldOf(path: string, name: string, schema: Schema, required: boolean): Field {
  const kinds = [schema, ...(schema.anyOf ?? [])];
  const types = new Set(kinds.map(({ type }) => type).filter((type) => type && type !== "null"));
  const choices = schema.enum?.map(String) ?? [];
  return {
    path,
    name,
    about: schema.description ?? "",
    required,
    fallback: schema.default,
    control: choices.length ? "choice" : types.size === 1 && types.has("boolean") ? "flag" : "line",
    choices,
    text: types.size === 1 && types.has("string"),
  };
}

/** Whether a fault's path is that of a field, or lies inside of its value: `model.hidden_size`, `mixture[0].weight`. */
export function isWithin(path: string, field: string): boolean {
  return path === field || path.startsWith(`${field}.`) || path.startsWith(`${field}[`);
}

/** Returns what a draft of another kind has that this kind takes too. */
export function withoutUnknown(root: Schema, draft: Part): Part {
  const kept = Object.entries(draft).flatMap(([name, value]): [string, unknown][] => {
    const given = root.properties?.[name];
    if (!given) return [];
    const properties = isPart(value) && partOf(root, given, value)?.properties;
    if (!properties) return [[name, value]];
    const inner = Object.entries(value as Part).filter(([key]) => key in properties);
    return inner.length ? [[name, Object.fromEntries(inner)]] : [];
  });
  return Object.fromEntries(kept);
}

export function valueAt(draft: unknown, path: string): unknown {
  return path.split(".").reduce<unknown>((part, key) => (part as Part | undefined)?.[key], draft);
}

/** Returns the draft with another value; `undefined` removes the value, and objects that this leaves empty. */
export function withValue(draft: Part, path: string, value: unknown): Part {
  const [key, ...rest] = path.split(".") as [string, ...string[]];
  const before = draft[key];
  const part = isPart(before) ? before : {};
  const next = rest.length ? withValue(part, rest.join("."), value) : value;
  const { [key]: _, ...others } = draft;
  if (next === undefined || (rest.length && isPart(next) && Object.keys(next).length === 0)) return others;
  return key in draft ? { ...draft, [key]: next } : { ...others, [key]: next };
}

/** Returns the values of a spec that the request had set, by the origin of each path. Names may contain dots. */
export function setIn(part: Part, origins: Readonly<Record<string, string>>, before = ""): Part {
  const kept = Object.entries(part).flatMap(([name, value]): [string, unknown][] => {
    const inner = isPart(value) ? setIn(value, origins, `${before}${name}.`) : {};
    if (Object.keys(inner).length > 0) return [[name, inner]];
    return origins[before + name] === "set" ? [[name, value]] : [];
  });
  return Object.fromEntries(kept);
}

export function isPart(value: unknown): value is Part {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
