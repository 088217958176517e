import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  redirect,
} from "@tanstack/react-router";
import type { JobsSearch } from "./api/jobs";
import type { Session } from "./api/session";
import { jobSearch } from "./job/search";
import { JobsPage } from "./jobs/JobsPage";
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

const job = createRoute({
  getParentRoute: () => root,
  path: "/jobs/$jobId",
  component: lazyRouteComponent(() => import("./job/JobPage"), "JobPage"),
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
    component: lazyRouteComponent(() => import("./job/MetricsTab"), "MetricsTab"),
  }),
  createRoute({
    getParentRoute: () => job,
    path: "events",
    component: lazyRouteComponent(() => import("./job/EventsTab"), "EventsTab"),
  }),
  createRoute({
    getParentRoute: () => job,
    path: "system",
    component: lazyRouteComponent(() => import("./job/SystemTab"), "SystemTab"),
  }),
  createRoute({
    getParentRoute: () => job,
    path: "config",
    component: lazyRouteComponent(() => import("./job/ConfigTab"), "ConfigTab"),
  }),
  createRoute({
    getParentRoute: () => job,
    path: "artifacts",
    component: lazyRouteComponent(() => import("./job/ArtifactsTab"), "ArtifactsTab"),
  }),
] as const;

function text(value: unknown): string | undefined {
  return typeof value === "string" && value ? value : undefined;
}

export const router = createRouter({
  routeTree: root.addChildren([home, jobs, job.addChildren([jobHome, ...jobTabs])]),
  context: { session: undefined! },
  defaultPreload: "intent",
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
