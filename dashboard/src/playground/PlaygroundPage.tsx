import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { checkpointsOfAllQuery, modelsQuery } from "../api/models";
import { useMay } from "../api/session";
import { Button, buttonClass } from "../parts/Button";
import { Head } from "../parts/Head";
import { Empty, Failure, Notice } from "../parts/Notice";
import { useAhead } from "../parts/useAhead";
import { Composer } from "./Composer";
import { Pane } from "./Pane";
import css from "./PlaygroundPage.module.css";
import { SamplingFields } from "./SamplingFields";
import { samplingOf } from "./search";
import { SIDES } from "./talk";
import { useTalk } from "./useTalk";
import { chosenOf } from "./weights";

const route = getRouteApi("/playground");

/** Two models side by side that answer the same prompt; each answer names the weights that gave it. */
export function PlaygroundPage() {
  const navigate = route.useNavigate();
  const [search, set] = useAhead(route.useSearch(), (changes) =>
    navigate({ search: (before) => ({ ...before, ...changes }), state: true, replace: true, resetScroll: false }),
  );
  const { plain = false, system, prompt, base, tuned } = search;
  const made = useQuery(modelsQuery);
  const saved = useQuery(checkpointsOfAllQuery);
  const talk = useTalk();
  const may = useMay("write");

  const error = made.error ?? saved.error;
  if (!made.data || !saved.data) return error && <Failure error={error} />;
  const artifacts = [...made.data, ...saved.data];
  if (artifacts.length === 0) return <NoModels />;
  const models = chosenOf({ base, tuned }, artifacts);
  const sampling = samplingOf(search);
  return (
    <>
      <Head title="Playground">
        {talk.turns.length > 0 && (
          <Button disabled={talk.stop !== null} onClick={talk.clear}>
            New conversation
          </Button>
        )}
      </Head>
      {!may && <Notice>Your key is read-only. Asking a model requires a key with the scope write.</Notice>}
      <SamplingFields plain={plain} system={system} given={search} set={set} />
      <div className={css.panes}>
        {SIDES.map((side) => (
          <Pane
            key={side}
            side={side}
            chosen={models[side]}
            artifacts={artifacts}
            turns={talk.turns}
            choose={(reference) => set({ [side]: reference })}
          />
        ))}
      </div>
      <Composer
        draft={prompt ?? ""}
        plain={plain}
        ready={may && Boolean(models.base || models.tuned)}
        stop={talk.stop}
        keep={(draft) => set({ prompt: draft || undefined })}
        send={(prompt) => talk.send({ prompt, plain, system: system ?? "", models, sampling })}
      />
    </>
  );
}

function NoModels() {
  return (
    <>
      <Head title="Playground" />
      <Empty title="No models yet">
        <p className="muted">
          A pretrain job creates the first model. You can chat with it as soon as it has saved a checkpoint.
        </p>
        <Link to="/jobs" className={buttonClass("primary")}>
          Create the first job
        </Link>
      </Empty>
    </>
  );
}
