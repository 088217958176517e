import { QueryClient, QueryClientProvider, useQuery } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Refusal } from "./api/client";
import { sessionQuery } from "./api/session";
import { router } from "./router";
import { SignIn } from "./shell/SignIn";
import "./styles/page.css";

const RETRY_MS = 1500;

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      networkMode: "always",
      // What the service refused it refuses again; what did not reach it is tried until it does.
      retry: (_, error) => !(error instanceof Refusal) || error.status >= 502,
      retryDelay: RETRY_MS,
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

function Page() {
  const { data: session } = useQuery(sessionQuery);
  if (!session) return null;
  return session.key ? <RouterProvider router={router} context={{ session }} /> : <SignIn />;
}

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <QueryClientProvider client={queries}>
      <Page />
    </QueryClientProvider>
  </StrictMode>,
);
