import { lazyRouteComponent } from "@tanstack/react-router";

/** The code of a page did not come: the service is away, or another version of it answers by now. */
export class PageUnfetched extends Error {
  constructor(
    readonly page: string,
    cause: unknown,
  ) {
    super(`The code of ${page} did not come.`, { cause });
  }
}

/**
 * A page whose code is fetched once somebody goes there, or is about to.
 * What failed stays failed until the document is loaded anew (`Broken` does that): a second import would bring the
 * page's script without the styles that failed, for those the browser is asked only once.
 */
export const lazyPage: typeof lazyRouteComponent = (fetchCode, name) => {
  let failed: PageUnfetched | undefined;
  return lazyRouteComponent(async () => {
    if (failed) throw failed;
    const code = await fetchCode().catch((cause) => {
      failed = new PageUnfetched(String(name), cause);
      throw failed;
    });
    if (sessionStorage.getItem(LOADED_FOR) === String(name)) sessionStorage.removeItem(LOADED_FOR);
    return code;
  }, name);
};

const LOADED_FOR = "trainyard.loaded-for";

/** Loads the document anew for a page, unless that has been done for it before and was in vain. */
export function loadAnew({ page }: PageUnfetched): boolean {
  if (sessionStorage.getItem(LOADED_FOR) === page) return false;
  sessionStorage.setItem(LOADED_FOR, page);
  location.reload();
  return true;
}
