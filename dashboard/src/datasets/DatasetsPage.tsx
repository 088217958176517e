import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { filesQuery } from "../api/files";
import { useMay } from "../api/session";
import { bytes, count } from "../format";
import { Ago } from "../parts/Ago";
import { Head } from "../parts/Head";
import { List, numberClass } from "../parts/List";
import { Empty, Failure } from "../parts/Notice";
import css from "./DatasetsPage.module.css";
import { Upload } from "./Upload";

const route = getRouteApi("/datasets");

export function DatasetsPage() {
  const search = route.useSearch();
  const { data, error } = useQuery(filesQuery(search));
  return (
    <>
      <Head title="Datasets" />
      {useMay("write") && <Upload />}
      {error && !data && <Failure error={error} />}
      {data?.data.length === 0 && (
        <Empty title="No datasets yet">
          <p className="muted">
            Choose a file above, or start with a sample on the <Link to="/jobs">Jobs</Link> page.
          </p>
        </Empty>
      )}
      {data && data.data.length > 0 && (
        <List
          label="Datasets"
          columns={["File", "Purpose", "Format", { number: "Rows" }, { number: "Size" }, "Uploaded"]}
        >
          {data.data.map((file) => (
            <tr key={file.id}>
              <td>
                <span className={css.file}>
                  <Link to="/datasets/$fileId" params={{ fileId: file.id }}>
                    <b>{file.filename}</b>
                  </Link>
                  <code className="muted">{file.id}</code>
                </span>
              </td>
              <td>{file.purpose}</td>
              <td>{file.format}</td>
              <td className={numberClass}>{file.row_count ? count(file.row_count) : "–"}</td>
              <td className={numberClass}>{bytes(file.bytes)}</td>
              <td>
                <Ago at={file.created_at} />
              </td>
            </tr>
          ))}
        </List>
      )}
      {data?.has_more && (
        <Link to="/datasets" search={{ ...search, after: data.last_id ?? undefined }}>
          Older files
        </Link>
      )}
    </>
  );
}
