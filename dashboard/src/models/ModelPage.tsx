import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { pathOf } from "../api/jobs";
import { artifactQuery, type Lineage, lineageQuery } from "../api/models";
import { errorOf } from "../api/state";
import { Button, buttonClass } from "../parts/Button";
import { Head } from "../parts/Head";
import { Icon } from "../parts/Icon";
import { Failure, Notice } from "../parts/Notice";
import { Facts } from "./Facts";
import { graphOf } from "./graph";
import css from "./Lineage.module.css";
import { LineageDrawing } from "./LineageDrawing";
import { LineageList } from "./LineageList";

export interface ModelSearch {
  /** Shows the lineage as a list instead of a drawing. */
  view?: "list";
}

const route = getRouteApi("/models/$kind/$id");

/** An artifact and its lineage, which is kept after the artifact has been deleted. */
export function ModelPage() {
  const { kind, id } = route.useParams();
  const { data, error } = useQuery(lineageQuery(kind, id));
  if (!data) return error && <Failure error={error} />;
  return <Known lineage={data} />;
}

function Known({ lineage }: { lineage: Lineage }) {
  const { view } = route.useSearch();
  const navigate = route.useNavigate();
  const loaded = useQuery({ ...artifactQuery(lineage.kind, lineage.id), enabled: !lineage.deleted });
  const unread = errorOf(loaded);
  const graph = useMemo(() => graphOf(lineage), [lineage]);
  return (
    <>
      <Head title={lineage.kind === "checkpoint" ? `Checkpoint of step ${lineage.step}` : lineage.reference}>
        {!lineage.deleted && (
          <>
            <Link to="/playground" search={{ tuned: lineage.reference }} className={buttonClass("primary")}>
              Open in playground
            </Link>
            <Link
              to="/jobs/new"
              search={{ spec: { kind: "eval", model: lineage.reference } }}
              className={buttonClass()}
            >
              Evaluate
            </Link>
            <a className={buttonClass()} href={`${pathOf(lineage)}/archive`} download>
              <Icon name="download" /> tar <span className="visually-hidden">of {lineage.reference}</span>
            </a>
          </>
        )}
      </Head>
      {lineage.deleted && <Notice tone="warn">Deleted: its files are gone, its lineage is kept.</Notice>}
      {loaded.data && <Facts artifact={loaded.data} />}
      {unread && <Failure error={unread} />}
      <div className={css.head}>
        <h2>Lineage</h2>
        <fieldset className={css.modes}>
          <legend className="visually-hidden">Show the lineage as</legend>
          {([undefined, "list"] as const).map((name) => (
            <Button
              key={name ?? "drawing"}
              look={name === view ? undefined : "plain"}
              aria-pressed={name === view}
              onClick={() => navigate({ search: { view: name }, replace: true })}
            >
              {name ? "List" : "Drawing"}
            </Button>
          ))}
        </fieldset>
      </div>
      {view === "list" ? <LineageList graph={graph} /> : <LineageDrawing graph={graph} />}
    </>
  );
}
