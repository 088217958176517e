import { QueryClient, QueryClientProvider, useQuery } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { onSessionOutdated, Refusal } from "./api/client";
import { sessionQuery } from "./api/session";
import { router } from "./router";
import { SignIn } from "./shell/SignIn";
import { Unopened } from "./shell/Unopened";
import "./styles/page.css";

const RETRY_MS = 1500;

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      networkMode: "always",
      // Network errors and temporary failures are retried; any other refusal would only be repeated.
      retry: (_, error) => !(error instanceof Refusal) || error.isTemporary,
      retryDelay: (_, error) => (error instanceof Refusal ? error.retryAfterS * 1000 : RETRY_MS),
      staleTime: 1000,
      refetchOnWindowFocus: true,
    },
    mutations: { networkMode: "always" },
  },
});

onSessionOutdated(() => void queries.invalidateQueries({ queryKey: sessionQuery.queryKey }));

/** Returns the key in the address's fragment, which browsers do not send, and removes it from the address. */
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
