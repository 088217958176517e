import { Link } from "@tanstack/react-router";
import type { Weights } from "../api/chat";
import { count, figure } from "../format";
import { Copy } from "../parts/Command";
import { Notice } from "../parts/Notice";
import css from "./PlaygroundPage.module.css";
import type { Answer } from "./talk";

interface Props {
  prompt: string;
  plain: boolean;
  answer: Answer;
}

/** A prompt with its answer and the weights that gave it. */
export function Exchange({ prompt, plain, answer }: Props) {
  const { text, end, error, weights } = answer;
  return (
    <article className={css.turn} aria-busy={end === "writing"}>
      {!plain && (
        <p className={css.prompt} dir="auto">
          {prompt}
        </p>
      )}
      <p className={css.answer} dir="auto">
        {plain && <span className={css.given}>{prompt}</span>}
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
  length: "stopped at the token limit",
  stopped: "stopped",
  failed: "",
  left: "interrupted: the page was left",
};

function figuresOf({ end, tokens, tookMs, text }: Answer): string {
  const waiting = end === "writing" && !text ? "waiting for the model …" : ENDS[end];
  const size = tokens === undefined ? "" : `${count(tokens)} ${tokens === 1 ? "token" : "tokens"}`;
  const time = tookMs === undefined ? "" : `${figure(tookMs / 1000)} s`;
  return [size, time, waiting].filter(Boolean).join(", ");
}

const DIGITS = 12;
const KINDS: Record<string, string> = { model: "model", adapter: "adapter", ckpt: "checkpoint" };

/** The digests of the weights; an adapter names its base too. */
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
