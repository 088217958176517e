import { QueryClient, QueryClientProvider, useQuery } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Refusal } from "./api/client";
import { sessionQuery } from "./api/session";
import { router } from "./router";
import { SignIn } from "./shell/SignIn";
import { Unopened } from "./shell/Unopened";
import "./styles/page.css";

const RETRY_MS = 1500;
/** What the service tells a client of its own, too. */
const RETRY_AFTER_MS = 5000;

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      networkMode: "always",
      // What the service refused it refuses again, unless it says that this passes; what did not reach it is tried
      // until it does.
      retry: (_, error) => !(error instanceof Refusal) || error.passes,
      retryDelay: (_, error) => (error instanceof Refusal ? RETRY_AFTER_MS : RETRY_MS),
      staleTime: 1000,
      refetchOnWindowFocus: true,
    },
    mutations: { networkMode: "always" },
  },
});

queries.getQueryCache().subscribe(({ type, query }) => {
  const error = query.state.error;
  const ended = type === "updated" && error instanceof Refusal && error.status === 401;
  if (ended) queries.invalidateQueries({ queryKey: sessionQuery.queryKey });
});

/** A key that came in the address, where the browser sends it to nobody. It leaves the address, whoever is signed in. */
function takeKey(): string | undefined {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (key === null) return undefined;
  history.replaceState(history.state, "", location.pathname + location.search);
  return key;
}

const givenKey = takeKey();

function Page() {
  const { data: session, failureReason } = useQuery(sessionQuery);
  if (!session) return failureReason && <Unopened error={failureReason} />;
  return session.key ? <RouterProvider router={router} context={{ session }} /> : <SignIn given={givenKey} />;
}

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <QueryClientProvider client={queries}>
      <Page />
    </QueryClientProvider>
  </StrictMode>,
);
