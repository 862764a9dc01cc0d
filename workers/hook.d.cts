// Loading this file is all there is to do.
export {};
