import type { Preview } from "../api/preview";
import { count } from "../format";
import css from "./DatasetPage.module.css";

type Row = Preview["rows"][number];
type Document = Row["documents"][number];

const REASONS: Record<NonNullable<Row["reason"]>, string> = {
  dropped: "dropped: longer than max_length",
  no_trained_token: "dropped: no token to train on",
  excluded: "excluded by the job",
  not_a_row: "not a row",
};

export function MaskedRow({ row }: { row: Row }) {
  const trained = row.documents.reduce((sum, document) => sum + document.trained.filter(Boolean).length, 0);
  const tokens = row.documents.reduce((sum, document) => sum + document.ids.length, 0);
  return (
    <article className={css.row} aria-label={`Line ${row.line}`}>
      <header>
        <b>line {count(row.line)}</b>
        <span>{row.split === "validation" ? "held out" : row.split === "train" ? "trained on" : "not used"}</span>
        <span>
          {count(trained)} of {count(tokens)} tokens trained on
        </span>
        {row.truncated && <span className={css.flag}>truncated</span>}
        {row.reason && <span className={css.flag}>{REASONS[row.reason]}</span>}
        {!row.reason && trained === 0 && <span className={css.flag}>no token to train on</span>}
      </header>
      {row.documents.map((document, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: documents have no ids
        <Tokens key={index} document={document} />
      ))}
    </article>
  );
}

/** Joins adjacent tokens that are trained on, or not, so that screen readers read a few parts, not a thousand tokens. */
function Tokens({ document }: { document: Document }) {
  const runs: { trained: boolean; text: string }[] = [];
  document.pieces.forEach((piece, index) => {
    const trained = document.trained[index] ?? false;
    const last = runs.at(-1);
    if (last && last.trained === trained) last.text += piece;
    else runs.push({ trained, text: piece });
  });
  return (
    <div>
      {document.answer && <b>{document.answer}</b>}
      <p className={css.text} dir="auto">
        {runs.map(({ trained, text }, index) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: the parts never change
          <span key={index} className={trained ? css.trained : css.masked} data-trained={trained}>
            {text}
          </span>
        ))}
      </p>
    </div>
  );
}
