import { lazyRouteComponent } from "@tanstack/react-router";

/** A page's code could not be loaded: the service is unreachable, or has been upgraded since. */
export class PageUnfetched extends Error {
  constructor(
    readonly page: string,
    cause: unknown,
  ) {
    super(`The code of ${page} could not be loaded.`, { cause });
  }
}

/**
 * A page whose code is loaded when the user goes there, or is about to.
 * A failure lasts until the document is reloaded, which `Broken` does: a second import would load the page's script
 * without the styles that failed, because the browser requests those only once.
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

/** Reloads the document for a page. Returns false, without a reload, when one has not helped before. */
export function loadAnew({ page }: PageUnfetched): boolean {
  if (sessionStorage.getItem(LOADED_FOR) === page) return false;
  sessionStorage.setItem(LOADED_FOR, page);
  location.reload();
  return true;
}
