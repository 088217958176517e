import { createRootRouteWithContext, createRoute, createRouter, redirect } from "@tanstack/react-router";
import type { FilesSearch } from "./api/files";
import type { JobsSearch } from "./api/jobs";
import type { Session } from "./api/session";
import type { CompareSearch } from "./compare/ComparePage";
import { keptRuns } from "./compare/runs";
import type { DatasetSearch } from "./datasets/DatasetPage";
import type { EvalSearch } from "./evals/EvalPage";
import type { EvalsSearch } from "./evals/EvalsPage";
import { jobSearch } from "./job/search";
import { JobsPage } from "./jobs/JobsPage";
import type { ModelSearch } from "./models/ModelPage";
import type { NewJobSearch } from "./newjob/NewJobPage";
import { isPart } from "./newjob/schema";
import type { PlaygroundSearch } from "./playground/search";
import { Broken } from "./shell/Broken";
import { lazyPage } from "./shell/lazyPage";
import { Missing } from "./shell/Missing";
import { Shell } from "./shell/Shell";

const root = createRootRouteWithContext<{ session: Session }>()({
  component: () => <Shell session={root.useRouteContext().session} />,
  notFoundComponent: Missing,
});

const home = createRoute({
  getParentRoute: () => root,
  path: "/",
  beforeLoad: () => {
    throw redirect({ to: "/jobs", replace: true });
  },
});

const jobs = createRoute({
  getParentRoute: () => root,
  path: "/jobs",
  validateSearch: (search: Record<string, unknown>): JobsSearch => ({
    status: text(search.status) as JobsSearch["status"],
    kind: text(search.kind),
    after: text(search.after),
  }),
  component: JobsPage,
});

const newJob = createRoute({
  getParentRoute: () => root,
  path: "/jobs/new",
  validateSearch: (search: Record<string, unknown>): NewJobSearch => ({
    spec: isPart(search.spec) ? search.spec : undefined,
    mode: search.mode === "yaml" ? "yaml" : undefined,
    from: text(search.from),
  }),
  component: lazyPage(() => import("./newjob/NewJobPage"), "NewJobPage"),
});

const job = createRoute({
  getParentRoute: () => root,
  path: "/jobs/$jobId",
  component: lazyPage(() => import("./job/JobPage"), "JobPage"),
  validateSearch: jobSearch,
});

const jobHome = createRoute({
  getParentRoute: () => job,
  path: "/",
  beforeLoad: ({ params }) => {
    throw redirect({ to: "/jobs/$jobId/metrics", params, replace: true });
  },
});

const jobTabs = [
  createRoute({
    getParentRoute: () => job,
    path: "metrics",
    component: lazyPage(() => import("./job/MetricsTab"), "MetricsTab"),
  }),
  createRoute({
    getParentRoute: () => job,
    path: "events",
    component: lazyPage(() => import("./job/EventsTab"), "EventsTab"),
  }),
  createRoute({
    getParentRoute: () => job,
    path: "system",
    component: lazyPage(() => import("./job/SystemTab"), "SystemTab"),
  }),
  createRoute({
    getParentRoute: () => job,
    path: "config",
    component: lazyPage(() => import("./job/ConfigTab"), "ConfigTab"),
  }),
  createRoute({
    getParentRoute: () => job,
    path: "artifacts",
    component: lazyPage(() => import("./job/ArtifactsTab"), "ArtifactsTab"),
  }),
] as const;

const datasets = createRoute({
  getParentRoute: () => root,
  path: "/datasets",
  validateSearch: (search: Record<string, unknown>): FilesSearch => ({
    purpose: text(search.purpose),
    after: text(search.after),
  }),
  component: lazyPage(() => import("./datasets/DatasetsPage"), "DatasetsPage"),
});

const dataset = createRoute({
  getParentRoute: () => root,
  path: "/datasets/$fileId",
  validateSearch: (search: Record<string, unknown>): DatasetSearch => ({
    model: text(search.model),
    after: typeof search.after === "number" ? search.after : undefined,
  }),
  component: lazyPage(() => import("./datasets/DatasetPage"), "DatasetPage"),
});

const models = createRoute({
  getParentRoute: () => root,
  path: "/models",
  component: lazyPage(() => import("./models/ModelsPage"), "ModelsPage"),
});

const model = createRoute({
  getParentRoute: () => root,
  path: "/models/$kind/$id",
  validateSearch: (search: Record<string, unknown>): ModelSearch => ({
    view: search.view === "list" ? search.view : undefined,
  }),
  component: lazyPage(() => import("./models/ModelPage"), "ModelPage"),
});

const compare = createRoute({
  getParentRoute: () => root,
  path: "/compare",
  validateSearch: (search: Record<string, unknown>): CompareSearch => ({
    runs: texts(search.runs),
    hidden: texts(search.hidden),
    metric: text(search.metric),
  }),
  // Without runs in the address, as in the navigation's link, this tab's comparison is shown again.
  beforeLoad: ({ search }) => {
    const kept = search.runs ? [] : keptRuns();
    if (kept.length > 0) throw redirect({ to: "/compare", search: { ...search, runs: kept }, replace: true });
  },
  component: lazyPage(() => import("./compare/ComparePage"), "ComparePage"),
});

const evals = createRoute({
  getParentRoute: () => root,
  path: "/evals",
  validateSearch: (search: Record<string, unknown>): EvalsSearch => ({
    sort: search.sort === "regression" ? search.sort : undefined,
    file: text(search.file),
    after: text(search.after),
  }),
  component: lazyPage(() => import("./evals/EvalsPage"), "EvalsPage"),
});

const evaluation = createRoute({
  getParentRoute: () => root,
  path: "/evals/$jobId",
  validateSearch: (search: Record<string, unknown>): EvalSearch => ({
    only: ["worse", "better", "wrong"].find((known) => known === search.only) as EvalSearch["only"],
    after: number(search.after),
  }),
  component: lazyPage(() => import("./evals/EvalPage"), "EvalPage"),
});

const playground = createRoute({
  getParentRoute: () => root,
  path: "/playground",
  validateSearch: (search: Record<string, unknown>): PlaygroundSearch => ({
    base: text(search.base),
    tuned: text(search.tuned),
    plain: search.plain === true || undefined,
    system: text(search.system),
    prompt: text(search.prompt),
    temperature: number(search.temperature),
    top_p: number(search.top_p),
    max_tokens: number(search.max_tokens),
    seed: number(search.seed),
  }),
  component: lazyPage(() => import("./playground/PlaygroundPage"), "PlaygroundPage"),
});

const workers = createRoute({
  getParentRoute: () => root,
  path: "/workers",
  component: lazyPage(() => import("./workers/WorkersPage"), "WorkersPage"),
});

const keys = createRoute({
  getParentRoute: () => root,
  path: "/keys",
  component: lazyPage(() => import("./keys/KeysPage"), "KeysPage"),
});

function texts(value: unknown): string[] | undefined {
  return Array.isArray(value) ? value.filter((one) => typeof one === "string") : undefined;
}

function number(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value ? value : undefined;
}

export const router = createRouter({
  routeTree: root.addChildren([
    home,
    jobs,
    newJob,
    job.addChildren([jobHome, ...jobTabs]),
    datasets,
    dataset,
    models,
    model,
    compare,
    evals,
    evaluation,
    playground,
    workers,
    keys,
  ]),
  context: { session: undefined! },
  defaultPreload: "intent",
  defaultErrorComponent: Broken,
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
