import { useId, useState } from "react";
import type { Fault } from "../api/client";
import { inputClass } from "../parts/Button";
import css from "./FormField.module.css";
import type { Field } from "./schema";
import { readValue, writeValue } from "./yaml";

interface Props {
  field: Field;
  value: unknown;
  /** What the job that is cloned has here, where this differs from it. */
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
        {field.required && <span className="muted">needed</span>}
        {value !== undefined && !field.required && <span className={css.set}>set</span>}
        {was && <span className={css.set}>was {was.value === undefined ? "left out" : writeValue(was.value)}</span>}
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
      {faults.map((fault) => (
        <p key={fault.message} id={`${id}-fault`} className={css.fault}>
          {[fault.message, fault.hint].filter(Boolean).join("; ")}
        </p>
      ))}
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

/** A line keeps what is typed as it is typed; what it means goes to the draft. */
function Line({ field, value, placeholder, set, ...rest }: LineProps) {
  const told = field.text && typeof value === "string" ? value : writeValue(value);
  const [typed, setTyped] = useState(told);
  const meant = meaning(field, typed);
  const shown = JSON.stringify(meant) === JSON.stringify(value) ? typed : told;
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
        set(meaning(field, target.value));
      }}
    />
  );
}

function meaning(field: Field, typed: string): unknown {
  if (typed === "") return undefined;
  return field.text ? typed : readValue(typed);
}
