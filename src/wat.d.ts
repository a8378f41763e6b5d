/** The build compiles WebAssembly text; what is imported is the binary module. */
declare module '*.wat' {
  const kernel: Uint8Array<ArrayBuffer>;
  export default kernel;
}
