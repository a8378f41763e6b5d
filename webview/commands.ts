/** The extension's commands that the page asks the shell to run on its image. */
export const COMMANDS = {
  check: 'chainscope.checkImage',
  checkDeep: 'chainscope.checkImageDeep',
  cancelCheck: 'chainscope.cancelCheck',
  grantAccess: 'chainscope.grantAccess',
  locateMissing: 'chainscope.locateMissing',
  unlock: 'chainscope.unlockImage',
  forgetPassphrases: 'chainscope.forgetPassphrases',
} as const;
