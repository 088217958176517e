import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { Fragment } from "react";
import { type DataFile, fileQuery } from "../api/files";
import { modelsQuery } from "../api/models";
import { kindFor, PREVIEW_ROWS, previewQuery } from "../api/preview";
import { useMay } from "../api/session";
import { bytes, count } from "../format";
import { Ago } from "../parts/Ago";
import { Button, buttonClass, inputClass } from "../parts/Button";
import { Head } from "../parts/Head";
import { Icon } from "../parts/Icon";
import { Failure, Notice } from "../parts/Notice";
import css from "./DatasetPage.module.css";
import { Lengths } from "./Lengths";
import { MaskedRow } from "./MaskedRow";

export interface DatasetSearch {
  /** The model whose tokenizer splits the rows. */
  model?: string;
  after?: number;
}

const route = getRouteApi("/datasets/$fileId");

export function DatasetPage() {
  const { fileId } = route.useParams();
  const { data: file, error } = useQuery(fileQuery(fileId));
  const may = useMay("write");
  const model = useChosen(file);
  if (!file) return error && <Failure error={error} />;
  const kind = kindFor(file);
  return (
    <>
      <Head title={file.filename}>
        {may && kind && (
          <Link
            to="/jobs/new"
            search={{ spec: { kind, ...(model && { model }), training_file: file.id } }}
            className={buttonClass("primary")}
          >
            Train on this
          </Link>
        )}
        <a className={buttonClass()} href={`/v1/files/${file.id}/content`} download>
          <Icon name="download" /> Download
        </a>
      </Head>
      <p className={css.facts}>
        <span>
          {file.row_count > 0 && `${count(file.row_count)} rows of format `}
          {file.format}, {bytes(file.bytes)}, for {file.purpose}
        </span>
        <code>{file.id}</code>
        <code>sha256 {file.sha256.slice(0, 12)}</code>
        <span>
          uploaded <Ago at={file.created_at} />
        </span>
      </p>
      {kind && file.purpose !== "evals" && <Trained file={file} />}
    </>
  );
}

/** The model whose tokenizer splits the rows: the one in the address, or else the newest; for texts, a new model's by default. */
function useChosen(file: DataFile | undefined): string | undefined {
  const { model } = route.useSearch();
  const newest = useQuery(modelsQuery).data?.[0]?.reference;
  return model ?? (file && kindFor(file) !== "pretrain" ? newest : undefined);
}

/** Accounts for the lines between two rows, so that no line of a file is omitted silently. */
function Between({ after, before }: { after: number; before: number }) {
  const [first, last] = [after + 1, before - 1];
  if (last < first) return null;
  const lines = first === last ? `Line ${count(first)} is` : `Lines ${count(first)} to ${count(last)} are`;
  return <p className="muted">{lines} held out for evaluation, or blank.</p>;
}

/** The file as a job trains on it: the labels, the lengths of rows, and what is truncated or dropped. */
function Trained({ file }: { file: DataFile }) {
  const { model, after = 0 } = route.useSearch();
  const navigate = route.useNavigate();
  const loaded = useQuery(modelsQuery);
  const models = loaded.data ?? [];
  const chosen = useChosen(file);
  const rows = useQuery(previewQuery(file, chosen, after, false));
  const whole = useQuery(previewQuery(file, chosen, 0, true));
  const last = rows.data?.rows.at(-1)?.line;
  const error = loaded.error ?? rows.error ?? whole.error;
  return (
    <div className={css.parts}>
      <label>
        Tokenizer of{" "}
        <select
          className={inputClass}
          value={chosen ?? ""}
          onChange={({ target }) => navigate({ search: { model: target.value || undefined }, replace: true })}
        >
          {kindFor(file) === "pretrain" && <option value="">a new model</option>}
          {chosen && !models.some(({ reference }) => reference === chosen) && <option>{chosen}</option>}
          {models.map(({ reference }) => (
            <option key={reference}>{reference}</option>
          ))}
        </select>
      </label>
      {kindFor(file) !== "pretrain" && loaded.data?.length === 0 && (
        <Notice>Showing these rows requires a model's tokenizer, and there is no model yet: pretrain one first.</Notice>
      )}
      {error && <Failure error={error} />}
      {whole.data?.statistics.map((statistics) => (
        <Lengths key={statistics.file} statistics={statistics} maxLength={whole.data.max_length} />
      ))}
      {rows.isFetching && !rows.data && <p className="muted">Reading the rows …</p>}
      {rows.data && (
        <section aria-label="Rows as trained on">
          <h2>Rows as trained on</h2>
          <p className="muted">
            <span className={css.trained}>Underlined</span> tokens are trained on, the others are context.
          </p>
          <div className={css.rows}>
            {rows.data.rows.map((row, index) => (
              <Fragment key={row.line}>
                <Between after={rows.data.rows[index - 1]?.line ?? after} before={row.line} />
                <MaskedRow row={row} />
              </Fragment>
            ))}
          </div>
          <p className={css.facts}>
            {after > 0 && <Button onClick={() => navigate({ search: { model } })}>First rows</Button>}
            {rows.data.rows.length === PREVIEW_ROWS && (
              <Button onClick={() => navigate({ search: { model, after: last } })}>Next rows</Button>
            )}
          </p>
        </section>
      )}
    </div>
  );
}
