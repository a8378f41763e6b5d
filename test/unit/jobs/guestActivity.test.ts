import { describe, expect, it } from 'vitest';

import { GuestActivity } from '../../../src/engine/jobs/guestActivity';
import { HandClock, settle } from './clock';

/** Says whether the wait has ended. */
function waiting(activity: GuestActivity): () => boolean {
  let over = false;
  void activity.giveWay().then(() => {
    over = true;
  });
  return () => over;
}

describe('giving way to a guest', () => {
  const request = (activity: GuestActivity) => {
    activity.requestBegan();
    activity.requestEnded();
  };

  it('does not wait where no guest asks for anything', async () => {
    const activity = new GuestActivity(new HandClock());
    const over = waiting(activity);
    await settle();
    expect(over()).toBe(true);
  });

  it('waits until the guest pauses, and then copies on until its next request', async () => {
    const clock = new HandClock();
    const activity = new GuestActivity(clock);
    request(activity);
    const over = waiting(activity);
    await clock.pass(0.5);
    request(activity);
    await clock.pass(1);
    expect(over()).toBe(false);
    await clock.pass(1);
    expect(over()).toBe(true);
    const again = waiting(activity);
    await settle();
    expect(again()).toBe(true);
  });

  it('waits only so long for a guest that never pauses', async () => {
    const clock = new HandClock();
    const activity = new GuestActivity(clock);
    request(activity);
    const over = waiting(activity);
    for (let step = 0; step < 7; step++) {
      await clock.pass(0.5);
      request(activity);
    }
    expect(over()).toBe(false);
    await clock.pass(1);
    expect(over()).toBe(true);
  });

  it('copies a larger piece now and then beside a guest that asks so often that few of its requests meet it', async () => {
    const clock = new HandClock();
    const activity = new GuestActivity(clock);
    const piece = async (requestsPerStep: number) => {
      request(activity);
      const over = waiting(activity);
      while (!over()) {
        for (let count = 0; count < requestsPerStep; count++) {
          request(activity);
        }
        await clock.pass(0.5);
      }
      return activity.chunkBytes;
    };
    const small = await piece(1);
    expect(await piece(50)).toBe(8 * small);
    expect(await piece(1)).toBe(small);
  });
});
