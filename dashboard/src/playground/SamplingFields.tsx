import { useId } from "react";
import { Button, inputClass } from "../parts/Button";
import css from "./PlaygroundPage.module.css";
import { type PlaygroundSearch, USUAL } from "./search";

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
    about: "0 takes the likeliest token each time",
  },
  {
    name: "top_p",
    label: "Top p",
    min: 0.01,
    max: 1,
    step: 0.01,
    about: "draw from the likeliest tokens that have so much together",
  },
  { name: "max_tokens", label: "Most tokens", min: 1, max: 1_048_576, step: 1, about: "of an answer" },
  { name: "seed", label: "Seed", min: 0, max: 2 ** 53 - 1, step: 1, about: "the same one draws the same answer" },
] as const;

/** How answers are drawn, and what the models are told beforehand. */
export function SamplingFields({ plain, system, given, set }: Props) {
  return (
    <div className={css.settings}>
      <fieldset className={css.modes}>
        <legend className="visually-hidden">The prompt is</legend>
        <Button look={plain ? "plain" : undefined} aria-pressed={!plain} onClick={() => set({ plain: undefined })}>
          Chat
        </Button>
        <Button look={plain ? undefined : "plain"} aria-pressed={plain} onClick={() => set({ plain: true })}>
          Text to go on with
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

function Figure({ field: { name, label, min, max, step, about }, value, set }: FigureProps) {
  const id = useId();
  return (
    <span className={css.figure}>
      <label htmlFor={id}>{label}</label>
      <input
        id={id}
        className={inputClass}
        type="number"
        {...{ min, max, step: step === 1 ? 1 : "any" }}
        value={value ?? ""}
        placeholder={String(USUAL[name] ?? "random")}
        title={about}
        onChange={({ target }) =>
          set(target.value && target.validity.valid ? target.valueAsNumber : target.value ? value : undefined)
        }
      />
    </span>
  );
}
