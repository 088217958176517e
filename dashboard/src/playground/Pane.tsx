import { useEffect, useRef } from "react";
import type { Artifact } from "../api/jobs";
import { count } from "../format";
import { inputClass } from "../parts/Button";
import { Exchange } from "./Exchange";
import css from "./PlaygroundPage.module.css";
import type { Side, Turn } from "./talk";
import { NONE } from "./weights";

const TITLES: Record<Side, string> = { base: "Base", tuned: "Tuned" };

interface Props {
  side: Side;
  chosen: string | undefined;
  artifacts: readonly Artifact[];
  turns: readonly Turn[];
  choose: (reference: string) => void;
}

/** One side: its model and its answers. */
export function Pane({ side, chosen, artifacts, turns, choose }: Props) {
  const mine = turns.filter(({ answers }) => answers[side]);
  const end = useRef<HTMLDivElement>(null);
  const length = mine.at(-1)?.answers[side]?.text.length;
  // biome-ignore lint/correctness/useExhaustiveDependencies: scrolls to new text, unless the user has scrolled up
  useEffect(() => {
    const log = end.current?.parentElement;
    if (log && log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_PX) log.scrollTop = log.scrollHeight;
  }, [mine.length, length]);
  return (
    <section className={css.pane} aria-label={TITLES[side]}>
      <header>
        <h2>{TITLES[side]}</h2>
        <Chooser title={TITLES[side]} chosen={chosen} artifacts={artifacts} choose={choose} />
      </header>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling area must be reachable by keyboard */}
      <div className={css.log} tabIndex={0} role="log" aria-label={`Answers of ${side}`} aria-live="off">
        {mine.length === 0 && <p className={css.quiet}>{chosen ? "Nothing asked yet." : "No model selected."}</p>}
        {mine.map((turn, index) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: turns are only appended
          <Exchange key={index} prompt={turn.prompt} plain={turn.plain} answer={turn.answers[side]!} />
        ))}
        <div ref={end} />
      </div>
    </section>
  );
}

const NEAR_PX = 120;

interface ChooserProps {
  title: string;
  chosen: string | undefined;
  artifacts: readonly Artifact[];
  choose: (reference: string) => void;
}

const GROUPS = [
  ["model", "Models"],
  ["adapter", "Adapters"],
  ["checkpoint", "Checkpoints"],
] as const;

function Chooser({ title, chosen, artifacts, choose }: ChooserProps) {
  const labelOf = ({ kind, reference, step, job_id, lineage }: Artifact) =>
    kind === "checkpoint" ? `step ${count(step)} of ${lineage.suffix ?? job_id}` : reference;
  const known = artifacts.some(({ reference }) => reference === chosen);
  return (
    <select
      className={inputClass}
      aria-label={`${title}: model, adapter or checkpoint`}
      value={chosen ?? NONE}
      onChange={({ target }) => choose(target.value)}
    >
      <option value={NONE}>none</option>
      {chosen && !known && <option>{chosen}</option>}
      {GROUPS.map(([kind, label]) => {
        const listed = artifacts.filter((artifact) => artifact.kind === kind);
        return (
          listed.length > 0 && (
            <optgroup key={kind} label={label}>
              {listed.map((artifact) => (
                <option key={artifact.id} value={artifact.reference}>
                  {labelOf(artifact)}
                </option>
              ))}
            </optgroup>
          )
        );
      })}
    </select>
  );
}
