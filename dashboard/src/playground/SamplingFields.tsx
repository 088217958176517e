import { useId, useState } from "react";
import { Button, inputClass } from "../parts/Button";
import css from "./PlaygroundPage.module.css";
import { DEFAULTS, type PlaygroundSearch } from "./search";

interface Props {
  plain: boolean;
  system: string | undefined;
  given: PlaygroundSearch;
  set: (changes: Partial<PlaygroundSearch>) => void;
}

const FIELDS = [
  {
    name: "temperature",
    label: "Temperature",
    min: 0,
    max: 2,
    step: 0.1,
    about: "0 always takes the most likely token",
  },
  {
    name: "top_p",
    label: "Top p",
    min: 0.01,
    max: 1,
    step: 0.01,
    about: "sample from the most likely tokens whose probabilities add up to this",
  },
  { name: "max_tokens", label: "Max tokens", min: 1, max: 1_048_576, step: 1, about: "the longest answer" },
  { name: "seed", label: "Seed", min: 0, max: 2 ** 53 - 1, step: 1, about: "the same seed gives the same answer" },
] as const;

/** The sampling parameters and the system message. */
export function SamplingFields({ plain, system, given, set }: Props) {
  return (
    <div className={css.settings}>
      <fieldset className={css.modes}>
        <legend className="visually-hidden">Prompt type</legend>
        <Button look={plain ? "plain" : undefined} aria-pressed={!plain} onClick={() => set({ plain: undefined })}>
          Chat
        </Button>
        <Button look={plain ? undefined : "plain"} aria-pressed={plain} onClick={() => set({ plain: true })}>
          Completion
        </Button>
      </fieldset>
      {FIELDS.map((field) => (
        <Figure
          key={field.name}
          field={field}
          value={given[field.name]}
          set={(value) => set({ [field.name]: value })}
        />
      ))}
      {!plain && (
        <label className={css.system}>
          <span>System message</span>
          <input
            className={inputClass}
            value={system ?? ""}
            placeholder="none"
            onChange={({ target }) => set({ system: target.value || undefined })}
          />
        </label>
      )}
    </div>
  );
}

interface FigureProps {
  field: (typeof FIELDS)[number];
  value: number | undefined;
  set: (value: number | undefined) => void;
}

/** A number field. It shows what is typed, valid or not; what is not valid is not set, and is dropped on leaving it. */
function Figure({ field: { name, label, min, max, step, about }, value, set }: FigureProps) {
  const id = useId();
  const written = String(value ?? "");
  const [typed, setTyped] = useState({ text: written, value });
  return (
    <span className={css.figure}>
      <label htmlFor={id}>{label}</label>
      <input
        id={id}
        className={inputClass}
        type="number"
        {...{ min, max, step: step === 1 ? 1 : "any" }}
        value={typed.value === value ? typed.text : written}
        placeholder={String(DEFAULTS[name] ?? "random")}
        title={about}
        onChange={({ target }) => {
          const next = !target.validity.valid ? value : target.value ? target.valueAsNumber : undefined;
          setTyped({ text: target.value, value: next });
          if (next !== value) set(next);
        }}
        onBlur={() => setTyped({ text: written, value })}
      />
    </span>
  );
}
