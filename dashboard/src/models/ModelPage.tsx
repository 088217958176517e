import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { pathOf } from "../api/jobs";
import { artifactQuery, type Lineage, lineageQuery } from "../api/models";
import { Button, buttonClass } from "../parts/Button";
import { Head } from "../parts/Head";
import { Icon } from "../parts/Icon";
import { Failure, Notice } from "../parts/Notice";
import { Drawing } from "./Drawing";
import { Facts } from "./Facts";
import { graphOf } from "./graph";
import css from "./Lineage.module.css";
import { Told } from "./Told";

export interface ModelSearch {
  /** The lineage as a list instead of a drawing. */
  view?: "list";
}

const route = getRouteApi("/models/$kind/$id");

/** An artifact: what it is, where it comes from and what came of it, also after it has been deleted. */
export function ModelPage() {
  const { kind, id } = route.useParams();
  const { data, error } = useQuery(lineageQuery(kind, id));
  if (!data) return error && <Failure error={error} />;
  return <Known told={data} />;
}

function Known({ told }: { told: Lineage }) {
  const { view } = route.useSearch();
  const navigate = route.useNavigate();
  const { data: artifact } = useQuery({ ...artifactQuery(told.kind, told.id), enabled: !told.deleted });
  const graph = useMemo(() => graphOf(told), [told]);
  return (
    <>
      <Head title={told.kind === "checkpoint" ? `Checkpoint of step ${told.step}` : told.reference}>
        {!told.deleted && (
          <>
            <Link to="/playground" search={{ tuned: told.reference }} className={buttonClass("primary")}>
              Talk with it
            </Link>
            <Link to="/jobs/new" search={{ spec: { kind: "eval", model: told.reference } }} className={buttonClass()}>
              Evaluate
            </Link>
            <a className={buttonClass()} href={`${pathOf(told)}/archive`} download>
              <Icon name="download" /> tar <span className="visually-hidden">of {told.reference}</span>
            </a>
          </>
        )}
      </Head>
      {told.deleted && <Notice tone="warn">It has been deleted: its files are gone, its lineage stays.</Notice>}
      {artifact && <Facts artifact={artifact} />}
      <div className={css.head}>
        <h2>Where it comes from, and what came of it</h2>
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
      {view === "list" ? <Told graph={graph} /> : <Drawing graph={graph} />}
    </>
  );
}
