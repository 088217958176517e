import { useId, useState } from "react";
import type { Fault } from "../api/client";
import { inputClass } from "../parts/Button";
import css from "./FormField.module.css";
import type { Field } from "./schema";
import { readValue, writeValue } from "./yaml";

interface Props {
  field: Field;
  value: unknown;
  /** The value in the job that is cloned, where it differs. */
  was?: { value: unknown };
  faults: readonly Fault[];
  suggestions?: readonly (readonly [value: string, about: string])[];
  set: (value: unknown) => void;
}

export function FormField({ field, value, was, faults, suggestions, set }: Props) {
  const id = useId();
  const fallback = field.fallback === undefined || field.fallback === null ? "" : writeValue(field.fallback);
  const described =
    [field.about && `${id}-about`, faults.length && `${id}-fault`].filter(Boolean).join(" ") || undefined;
  const common = {
    id,
    "data-path": field.path,
    "aria-invalid": faults.length > 0,
    "aria-describedby": described,
  };
  return (
    <div className={css.field}>
      <span className={css.name}>
        <label htmlFor={id}>{field.name}</label>
        {field.required && <span className="muted">required</span>}
        {value !== undefined && !field.required && <span className={css.set}>set</span>}
        {was && <span className={css.set}>was {was.value === undefined ? "unset" : writeValue(was.value)}</span>}
      </span>
      {field.control === "line" && !suggestions && (
        <Line {...common} field={field} value={value} placeholder={fallback} set={set} />
      )}
      {suggestions && (
        <select
          {...common}
          className={inputClass}
          value={String(value ?? "")}
          onChange={({ target }) => set(target.value || undefined)}
        >
          <option value="">{fallback || "choose …"}</option>
          {value !== undefined && !suggestions.some(([known]) => known === value) && <option>{String(value)}</option>}
          {suggestions.map(([known, about]) => (
            <option key={known} value={known}>
              {about}
            </option>
          ))}
        </select>
      )}
      {field.control === "choice" && (
        <select
          {...common}
          className={inputClass}
          value={String(value ?? "")}
          onChange={({ target }) => set(target.value || undefined)}
        >
          <option value="">{fallback} (default)</option>
          {field.choices.map((choice) => (
            <option key={choice}>{choice}</option>
          ))}
        </select>
      )}
      {field.control === "flag" && (
        <input
          {...common}
          className={css.flag}
          type="checkbox"
          checked={Boolean(value ?? field.fallback)}
          onChange={({ target }) => set(target.checked === field.fallback ? undefined : target.checked)}
        />
      )}
      {faults.length > 0 && (
        <div id={`${id}-fault`} className={css.fault}>
          {faults.map((fault) => (
            <p key={fault.path + fault.message}>
              {fault.path !== field.path && <b>{fault.path}: </b>}
              {[fault.message, fault.hint].filter(Boolean).join("; ")}
            </p>
          ))}
        </div>
      )}
      {field.about && (
        <p id={`${id}-about`} className={css.about}>
          {field.about}
        </p>
      )}
    </div>
  );
}

interface LineProps {
  field: Field;
  value: unknown;
  placeholder: string;
  set: (value: unknown) => void;
}

/** A text field. It shows the text as it was typed for as long as the draft has the value that the text stands for. */
function Line({ field, value, placeholder, set, ...rest }: LineProps) {
  const written = field.text && typeof value === "string" ? value : writeValue(value);
  const [typed, setTyped] = useState(written);
  const shown = JSON.stringify(parse(field, typed)) === JSON.stringify(value) ? typed : written;
  return (
    <input
      {...rest}
      className={inputClass}
      placeholder={placeholder}
      value={shown}
      spellCheck={false}
      autoComplete="off"
      onChange={({ target }) => {
        setTyped(target.value);
        set(parse(field, target.value));
      }}
    />
  );
}

function parse(field: Field, typed: string): unknown {
  if (typed === "") return undefined;
  return field.text ? typed : readValue(typed);
}
