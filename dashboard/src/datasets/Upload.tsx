import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type DragEvent, useRef, useState } from "react";
import { type Fault, Refusal } from "../api/client";
import { uploadFile, withoutLines } from "../api/upload";
import { count } from "../format";
import { Button, inputClass } from "../parts/Button";
import { Failure, Notice } from "../parts/Notice";
import css from "./DatasetsPage.module.css";

const PURPOSES = [
  ["fine-tune", "fine-tuning: chats, prompts with completions, or preference pairs"],
  ["pretrain", "pre-training: text"],
  ["evals", "evaluation"],
] as const;

/** The upload form. The service validates each row of a file as it arrives; a faulty file is rejected as a whole. */
export function Upload() {
  const queries = useQueryClient();
  const [purpose, setPurpose] = useState("fine-tune");
  const [file, setFile] = useState<File | null>(null);
  const [over, setOver] = useState(false);
  const [isSeveral, setSeveral] = useState(false);
  const chooser = useRef<HTMLInputElement>(null);
  const upload = useMutation({
    mutationFn: (chosen: File) => uploadFile(chosen, purpose),
    onSuccess: () => void queries.invalidateQueries({ queryKey: ["files"] }),
  });
  function take(chosen: File | undefined) {
    if (!chosen) return;
    setSeveral(false);
    setFile(chosen);
    upload.mutate(chosen);
  }
  function drop(event: DragEvent) {
    event.preventDefault();
    setOver(false);
    if (upload.isPending) return;
    const { files } = event.dataTransfer;
    if (files.length > 1) setSeveral(true);
    else take(files[0]);
  }
  const refused = upload.error instanceof Refusal && (upload.error.body.errors?.length ?? 0) > 0 ? upload.error : null;
  return (
    <section
      className={css.upload}
      aria-label="Upload"
      data-over={over}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(!upload.isPending);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={drop}
    >
      <div className={css.row}>
        <label>
          Purpose{" "}
          <select className={inputClass} value={purpose} onChange={({ target }) => setPurpose(target.value)}>
            {PURPOSES.map(([name, about]) => (
              <option key={name} value={name}>
                {about}
              </option>
            ))}
          </select>
        </label>
        <Button look="primary" disabled={upload.isPending} onClick={() => chooser.current?.click()}>
          {upload.isPending ? "Checking …" : "Choose a file"}
        </Button>
        <span className="muted">or drop it here: JSON Lines or plain text</span>
        <input
          ref={chooser}
          type="file"
          hidden
          aria-label="Data file"
          accept=".jsonl,.txt,.json"
          onChange={({ target }) => {
            take(target.files?.[0]);
            target.value = "";
          }}
        />
      </div>
      {isSeveral && <Notice tone="bad">Nothing was uploaded: drop one file at a time.</Notice>}
      {upload.data && (
        <p role="status">
          Uploaded <b>{upload.data.filename}</b>: {count(upload.data.row_count ?? 0)} rows of format{" "}
          {upload.data.format}.
        </p>
      )}
      {refused && file ? (
        <Faults refusal={refused} file={file} again={take} />
      ) : (
        upload.error && <Failure error={upload.error} manual />
      )}
    </section>
  );
}

interface FaultsProps {
  refusal: Refusal;
  file: File;
  again: (file: File) => void;
}

function Faults({ refusal, file, again }: FaultsProps) {
  const faults = refusal.body.errors ?? [];
  const total = refusal.body.fault_count ?? faults.length;
  const lines = new Set(faults.flatMap(({ line }) => (line ? [line] : [])));
  return (
    <>
      <Notice tone="bad">
        <b>Nothing was uploaded.</b>
        <span>
          {file.name} has {count(total)} {total === 1 ? "fault" : "faults"}. Select one to see its row.
        </span>
      </Notice>
      <div className={css.faults}>
        {faults.map((fault) => (
          <FaultLine key={[fault.line, fault.column, fault.path, fault.code].join(":")} fault={fault} file={file} />
        ))}
      </div>
      {total === faults.length && lines.size > 0 && (
        <div className={css.row}>
          <Button onClick={async () => again(await withoutLines(file, lines))}>
            Skip {count(lines.size)} {lines.size === 1 ? "line" : "lines"} and upload the rest
          </Button>
        </div>
      )}
    </>
  );
}

const AROUND = 160;

function FaultLine({ fault, file }: { fault: Fault; file: File }) {
  const [row, setRow] = useState<string | null>(null);
  const place = [fault.line, fault.column].filter(Boolean).join(":");
  async function toggle() {
    if (row !== null || !fault.line) return setRow(null);
    setRow((await file.text()).split("\n")[fault.line - 1] ?? "");
  }
  return (
    <div>
      <button type="button" className={css.fault} aria-expanded={row !== null} onClick={toggle}>
        <span className={css.place}>{place}</span>
        <span>
          {fault.path && <code>{fault.path}: </code>}
          {[fault.message, fault.hint].filter(Boolean).join("; ")}
        </span>
      </button>
      {row !== null && <Excerpt row={row} column={fault.column ?? 1} />}
    </div>
  );
}

/** The text around a column. Columns count characters, of which some are two UTF-16 units of a JavaScript string. */
function Excerpt({ row, column }: { row: string; column: number }) {
  const characters = Array.from(row);
  const at = column - 1;
  const start = Math.max(0, at - AROUND);
  return (
    <pre className={css.excerpt}>
      {start > 0 && "… "}
      {characters.slice(start, at)}
      <mark>{characters[at] ?? "end of the line"}</mark>
      {characters.slice(at + 1, at + AROUND)}
      {characters.length > at + AROUND && " …"}
    </pre>
  );
}
