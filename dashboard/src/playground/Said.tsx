import { Link } from "@tanstack/react-router";
import type { Weights } from "../api/chat";
import { count, figure } from "../format";
import { Copy } from "../parts/Command";
import { Notice } from "../parts/Notice";
import css from "./PlaygroundPage.module.css";
import type { Answer } from "./talk";

interface Props {
  asked: string;
  plain: boolean;
  answer: Answer;
}

/** A question, its answer, and which weights gave it. */
export function Said({ asked, plain, answer }: Props) {
  const { text, end, error, weights } = answer;
  return (
    <article className={css.turn} aria-busy={end === "writing"}>
      {!plain && (
        <p className={css.asked} dir="auto">
          {asked}
        </p>
      )}
      <p className={css.answer} dir="auto">
        {plain && <span className={css.given}>{asked}</span>}
        <span data-answer>{text}</span>
        {end === "writing" && <span className={css.caret} aria-hidden="true" />}
      </p>
      {error && <Notice tone="bad">{error}</Notice>}
      <footer className={css.facts}>
        {weights && <Digests weights={weights} />}
        <span>{figuresOf(answer)}</span>
        {text && end !== "writing" && <Copy text={text} label="Copy the answer" word="Copy" />}
      </footer>
    </article>
  );
}

const ENDS: Record<Answer["end"], string> = {
  writing: "writing …",
  stop: "",
  length: "cut at the most tokens",
  stopped: "stopped",
  failed: "",
  left: "the page was left before its end",
};

function figuresOf({ end, tokens, tookMs, text }: Answer): string {
  const waiting = end === "writing" && !text ? "waiting for the model …" : ENDS[end];
  const size = tokens === undefined ? "" : `${count(tokens)} ${tokens === 1 ? "token" : "tokens"}`;
  const time = tookMs === undefined ? "" : `${figure(tookMs / 1000)} s`;
  return [size, time, waiting].filter(Boolean).join(", ");
}

const DIGITS = 12;
const KINDS: Record<string, string> = { model: "model", adapter: "adapter", ckpt: "checkpoint" };

/** An adapter answers over a base: both are named. */
function Digests({ weights }: { weights: Weights }) {
  return (
    <span className={css.digests}>
      <Link
        to="/models/$kind/$id"
        params={{ kind: KINDS[weights.id.split("-")[0]!] ?? "model", id: weights.id }}
        title={`sha256 ${weights.digest}`}
      >
        {weights.reference} <code data-digest={weights.digest}>{weights.digest.slice(0, DIGITS)}</code>
      </Link>
      {weights.base && (
        <>
          {" over "}
          <Digests weights={weights.base} />
        </>
      )}
    </span>
  );
}
