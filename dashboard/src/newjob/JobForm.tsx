import { useQuery } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import type { Fault } from "../api/client";
import { filesQuery } from "../api/files";
import { MOST, modelsQuery } from "../api/models";
import { errorOf } from "../api/state";
import { Button } from "../parts/Button";
import { Failure, Notice } from "../parts/Notice";
import { FormField } from "./FormField";
import css from "./NewJobPage.module.css";
import { type Field, isWithin, type Part, type Schema, type Section, sectionsOf, valueAt, withValue } from "./schema";

interface Props {
  schema: Schema;
  draft: Part;
  original: Part | undefined;
  faults: readonly Fault[];
  change: (draft: Part) => void;
}

const PURPOSE: Record<string, string> = { pretrain: "pretrain", eval: "evals" };

export function JobForm({ schema, draft, original, faults, change }: Props) {
  const purpose = PURPOSE[String(draft.kind)] ?? "fine-tune";
  const files = useQuery(filesQuery({ purpose }, MOST));
  const models = useQuery(modelsQuery);
  const unread = errorOf(files, models);
  const sections = sectionsOf(schema, draft);
  const own = sortedByNeed(sections[0]!.fields);
  const more = { path: "more", about: "", fields: own.filter(({ path }) => !FIRST.includes(path)) };
  const parts = [...sections.slice(1), more];
  const known = sections.flatMap(({ fields }) => fields.map(({ path }) => path));
  const elsewhere = faults.filter(({ path }) => path && !known.some((field) => isWithin(path, field)));

  /** The options of a field with a list: none until the list has been read, undefined if that fails. */
  function suggestions(field: Field) {
    if (field.path.endsWith("_file") && !files.isLoadingError) {
      const listed = files.data?.data ?? [];
      return listed.map(({ id, filename, row_count }) => [id, `${filename} (${row_count} rows)`] as const);
    }
    if (((field.path === "model" && field.text) || field.path === "compare_to") && !models.isLoadingError)
      return (models.data ?? []).map(({ reference, kind }) => [reference, `${reference} (${kind})`] as const);
    return undefined;
  }
  function drawn(field: Field) {
    const value = valueAt(draft, field.path);
    const before = valueAt(original, field.path);
    return (
      <FormField
        key={field.path}
        field={field}
        value={value}
        was={original && JSON.stringify(before) !== JSON.stringify(value) ? { value: before } : undefined}
        faults={faults.filter(({ path }) => isWithin(path, field.path))}
        suggestions={suggestions(field)}
        set={(next) => change(withValue(draft, field.path, next))}
      />
    );
  }
  return (
    <>
      {elsewhere.map((fault) => (
        <Notice key={fault.path + fault.message} tone="bad">
          <b>{fault.path}</b>
          {[fault.message, fault.hint].filter(Boolean).join("; ")}
          {valueAt(draft, fault.path) !== undefined && (
            <Button onClick={() => change(withValue(draft, fault.path, undefined))}>Remove {fault.path}</Button>
          )}
        </Notice>
      ))}
      {unread && <Failure error={unread} />}
      <div className={css.fields}>{own.filter(({ path }) => FIRST.includes(path)).map(drawn)}</div>
      {parts.map((section) => (
        <Details key={section.path} title={section.path} isSet={isSet(draft, section)}>
          {section.fields.map(drawn)}
        </Details>
      ))}
    </>
  );
}

/** A section that is open at first when the draft has a value in it; from then on the user opens and closes it. */
function Details({ title, isSet, children }: { title: string; isSet: boolean; children: ReactNode }) {
  const [isOpen, setOpen] = useState(isSet);
  return (
    <details open={isOpen} onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary>
        {title}
        {isSet && <span className={css.changed}>set</span>}
      </summary>
      <div className={css.fields}>{children}</div>
    </details>
  );
}

const FIRST = ["model", "training_file", "eval_file", "compare_to", "suffix", "validation_file"];

/** Puts the fields that every job needs first, the rest in the order of the schema. */
function sortedByNeed(fields: readonly Field[]): Field[] {
  const rank = ({ path }: Field) => (FIRST.includes(path) ? FIRST.indexOf(path) : FIRST.length);
  return fields.toSorted((a, b) => rank(a) - rank(b));
}

function isSet(draft: Part, section: Section): boolean {
  return section.fields.some(({ path }) => valueAt(draft, path) !== undefined);
}
