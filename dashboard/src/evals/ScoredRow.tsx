import type { ScoredRow as Row } from "../api/evals";
import { count, figure } from "../format";
import { Icon } from "../parts/Icon";
import css from "./Evals.module.css";
import { LETTERS, type Question, questionOf } from "./question";

interface Props {
  row: Row;
  model: string;
  rival?: string;
}

/** A row: the question, the expected answer, and the answer of each model. */
export function ScoredRow({ row, model, rival }: Props) {
  const question = row.row && questionOf(row.row);
  const expected = question?.expected ?? (row.scores.reference as string | undefined);
  return (
    <article className={css.row} aria-label={`Line ${row.line}`}>
      <header>
        <b>line {count(row.line)}</b>
        {typeof row.scores.subject === "string" && row.scores.subject && <span>{row.scores.subject}</span>}
      </header>
      {question ? <Prompt question={question} /> : <p className="muted">The dataset has been deleted.</p>}
      {expected !== undefined && (
        <p className={css.expected} dir="auto">
          <span className="muted">expected</span> {expected}
        </p>
      )}
      <div className={css.sides}>
        <Answer title={model} scores={row.scores} />
        {row.compare_to && <Answer title={rival ?? "compared with"} scores={row.compare_to} />}
      </div>
    </article>
  );
}

function Prompt({ question: { parts, choices } }: { question: Question }) {
  return (
    <div className={css.question} dir="auto">
      {parts.map(({ role, text }, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the parts never change
        <p key={index}>
          {role && <span className="muted">{role} </span>}
          {text}
        </p>
      ))}
      {choices?.map((choice, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the choices never change
        <p key={index}>
          <span className="muted">{LETTERS[index]}.</span> {choice}
        </p>
      ))}
    </div>
  );
}

type Scores = Row["scores"];

/** One model's answer and scores, whose names depend on the task. */
function Answer({ title, scores }: { title: string; scores: Scores }) {
  return (
    <section className={css.made} aria-label={title}>
      <h3>{title}</h3>
      {typeof scores.text === "string" && (
        <p className={css.written} dir="auto">
          {scores.text.trim() || <span className="muted">{scores.text ? "only white space" : "no text"}</span>}
        </p>
      )}
      {typeof scores.correct === "boolean" && (
        <p>
          <Mark right={scores.correct} />{" "}
          {scores.answer === null ? "no answer found" : `answered ${String(scores.answer)}`}
          {scores.finished === false && <span className="muted">, stopped at the token limit</span>}
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
          loss <b>{scores.tokens === 0 ? "–" : figure(scores.loss as number | null)}</b> over{" "}
          {count(scores.tokens as number)} tokens
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
      <Icon name={right ? "succeeded" : "failed"} size={13} /> {right ? "correct" : "wrong"}
    </span>
  );
}
