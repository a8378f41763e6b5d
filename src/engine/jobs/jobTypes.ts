import type { JobPreview, JobRequest } from '../../protocol/jobs';
import { previewAllocate, previewCommit, previewMirror, previewRebase, previewStream } from './preview';
import type { JobParts, PreparedJob } from './preparedJob';
import { prepareAllocate } from './allocateJob';
import { prepareCommit } from './commitJob';
import { prepareMirror } from './mirrorJob';
import { prepareRebase } from './rebaseJob';
import { prepareStream } from './streamJob';
import { prepareTrim, previewTrim } from './trimJob';

/** Opens what a job of any type needs. @throws EngineError as `JobManager.start` */
export function prepareJob(request: JobRequest, parts: JobParts): Promise<PreparedJob> {
  switch (request.type) {
    case 'stream':
      return prepareStream(request, parts);
    case 'commit':
      return prepareCommit(request, parts);
    case 'mirror':
      return prepareMirror(request, parts);
    case 'rebase':
      return prepareRebase(request, parts);
    case 'allocate':
      return prepareAllocate(request, parts);
    case 'trim':
      return prepareTrim(request, parts);
  }
}

/** What a job would do. @throws EngineError */
export function previewJob(request: JobRequest, parts: JobParts): Promise<JobPreview> {
  switch (request.type) {
    case 'stream':
      return previewStream(request, parts);
    case 'commit':
      return previewCommit(request, parts);
    case 'mirror':
      return previewMirror(request, parts);
    case 'rebase':
      return previewRebase(request, parts);
    case 'allocate':
      return previewAllocate(request, parts);
    case 'trim':
      return previewTrim(request, parts);
  }
}
