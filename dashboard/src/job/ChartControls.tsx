import { inputClass } from "../parts/Button";
import css from "./ChartControls.module.css";
import type { JobSearch } from "./search";

interface Props {
  how: JobSearch;
  change: (to: JobSearch) => void;
  smoothing?: boolean;
}

/** The settings of the charts, all of which are in the address. */
export function ChartControls({ how, change: set, smoothing }: Props) {
  return (
    <fieldset className={css.controls}>
      <legend className="visually-hidden">Chart settings</legend>
      <label>
        X axis
        <select
          className={inputClass}
          value={how.x ?? "step"}
          onChange={({ target }) => set({ x: target.value === "step" ? undefined : (target.value as JobSearch["x"]) })}
        >
          <option value="step">steps</option>
          <option value="tokens">tokens</option>
          <option value="time">time</option>
        </select>
      </label>
      <Check label="Log x" checked={how.logx} set={(logx) => set({ logx })} />
      <Check label="Log y" checked={how.logy} set={(logy) => set({ logy })} />
      {smoothing && (
        <label>
          Smoothing
          <input
            type="range"
            min="0"
            max="0.99"
            step="0.01"
            value={how.smooth ?? 0}
            onChange={({ target }) => set({ smooth: Number(target.value) || undefined })}
          />
          <output>{how.smooth ? how.smooth.toFixed(2) : "off"}</output>
        </label>
      )}
      <Check label="Table" checked={how.table} set={(table) => set({ table })} />
    </fieldset>
  );
}

interface CheckProps {
  label: string;
  checked: boolean | undefined;
  set: (checked: boolean | undefined) => void;
}

function Check({ label, checked, set }: CheckProps) {
  return (
    <label>
      <input type="checkbox" checked={checked ?? false} onChange={({ target }) => set(target.checked || undefined)} />
      {label}
    </label>
  );
}
