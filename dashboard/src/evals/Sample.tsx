import type { ScoredRow } from "../api/evals";
import { count, figure } from "../format";
import { Icon } from "../parts/Icon";
import { type Asked, askedOf, LETTERS } from "./asked";
import css from "./Evals.module.css";

interface Props {
  row: ScoredRow;
  model: string;
  rival?: string;
}

/** A row: what was asked, what was expected, and what each model made of it. */
export function Sample({ row, model, rival }: Props) {
  const asked = row.row && askedOf(row.row);
  const expected = asked?.expected ?? (row.scores.reference as string | undefined);
  return (
    <article className={css.sample} aria-label={`Line ${row.line}`}>
      <header>
        <b>line {count(row.line)}</b>
        {typeof row.scores.subject === "string" && row.scores.subject && <span>{row.scores.subject}</span>}
      </header>
      {asked ? <Question asked={asked} /> : <p className="muted">The file of the rows has been deleted.</p>}
      {expected !== undefined && (
        <p className={css.expected} dir="auto">
          <span className="muted">expected</span> {expected}
        </p>
      )}
      <div className={css.sides}>
        <Made title={model} scores={row.scores} />
        {row.compare_to && <Made title={rival ?? "compared with"} scores={row.compare_to} />}
      </div>
    </article>
  );
}

function Question({ asked: { parts, choices } }: { asked: Asked }) {
  return (
    <div className={css.question} dir="auto">
      {parts.map(({ role, text }, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a part is known by its place
        <p key={index}>
          {role && <span className="muted">{role} </span>}
          {text}
        </p>
      ))}
      {choices?.map((choice, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a choice is known by its letter
        <p key={index}>
          <span className="muted">{LETTERS[index]}.</span> {choice}
        </p>
      ))}
    </div>
  );
}

type Scores = ScoredRow["scores"];

/** What one model made of the row; what it holds is the task's. */
function Made({ title, scores }: { title: string; scores: Scores }) {
  return (
    <section className={css.made} aria-label={title}>
      <h3>{title}</h3>
      {typeof scores.text === "string" && (
        <p className={css.written} dir="auto">
          {scores.text.trim() || <span className="muted">{scores.text ? "nothing but white space" : "nothing"}</span>}
        </p>
      )}
      {typeof scores.correct === "boolean" && (
        <p>
          <Mark right={scores.correct} />{" "}
          {scores.answer === null ? "no answer was found in it" : `read as ${String(scores.answer)}`}
          {scores.finished === false && <span className="muted">, cut at the most tokens</span>}
        </p>
      )}
      {isTable(scores.correct) && (
        <ul>
          {Object.entries(scores.correct).map(([way, right]) => (
            <li key={way}>
              <Mark right={right === true} /> {way}: {String((scores.chosen as Scores | undefined)?.[way] ?? "none")}
            </li>
          ))}
        </ul>
      )}
      {"loss" in scores && (
        <p>
          loss <b>{figure(scores.loss as number | null)}</b> over {count(scores.tokens as number)} tokens
        </p>
      )}
    </section>
  );
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function Mark({ right }: { right: boolean }) {
  return (
    <span className={right ? css.better : css.worse}>
      <Icon name={right ? "succeeded" : "failed"} size={13} /> {right ? "right" : "wrong"}
    </span>
  );
}
