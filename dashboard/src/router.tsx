import { createRootRouteWithContext, createRoute, createRouter, redirect } from "@tanstack/react-router";
import type { JobsSearch } from "./api/jobs";
import type { Session } from "./api/session";
import { JobPage } from "./job/JobPage";
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

const job = createRoute({ getParentRoute: () => root, path: "/jobs/$jobId", component: JobPage });

function text(value: unknown): string | undefined {
  return typeof value === "string" && value ? value : undefined;
}

export const router = createRouter({
  routeTree: root.addChildren([home, jobs, job]),
  context: { session: undefined! },
  defaultPreload: "intent",
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
