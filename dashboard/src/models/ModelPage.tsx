import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { lineageQuery } from "../api/models";
import { Head } from "../parts/Head";
import { Failure } from "../parts/Notice";
import css from "./ModelPage.module.css";

const route = getRouteApi("/models/$kind/$id");

interface Recorded {
  job_id?: string;
  kind?: string;
  files?: readonly { id: string; filename: string; sha256: string }[];
}

/** Where an artifact comes from, back to the first data: each thing a link, also when it has been deleted since. */
export function ModelPage() {
  const { kind, id } = route.useParams();
  const { data, error } = useQuery(lineageQuery(kind, id));
  if (!data) return error && <Failure error={error} />;
  const made = [{ ...data, kind, deleted: false }, ...data.ancestors].reverse();
  return (
    <>
      <Head title={data.reference} />
      <p className="muted">Where it comes from: the oldest first.</p>
      <ol className={css.chain}>
        {made.flatMap((artifact) => {
          const { files = [], job_id, kind: jobKind } = artifact.lineage as Recorded;
          return [
            ...files.map((file) => (
              <li key={`${artifact.id}-${file.id}`}>
                <span className={css.what}>dataset</span>
                <Link to="/datasets/$fileId" params={{ fileId: file.id }}>
                  {file.filename}
                </Link>
                <code className="muted">{file.sha256.slice(0, 12)}</code>
              </li>
            )),
            job_id && (
              <li key={`${artifact.id}-job`}>
                <span className={css.what}>{jobKind} job</span>
                <Link to="/jobs/$jobId" params={{ jobId: job_id }}>
                  {job_id}
                </Link>
              </li>
            ),
            <li key={artifact.id}>
              <span className={css.what}>{artifact.kind}</span>
              <Link to="/models/$kind/$id" params={{ kind: artifact.kind, id: artifact.id }}>
                <b>{artifact.reference}</b>
              </Link>
              {artifact.deleted && <span className="muted">deleted; its lineage stays</span>}
            </li>,
          ];
        })}
      </ol>
    </>
  );
}
