/**
 * The scroll bar of the list: a track that stands for the whole journal, by sequence.
 *
 * Always true: the thumb is where the visible messages are in the journal, also in a result that leaves most of it out.
 */

const THUMB_MIN = 24;
/** While somebody drags, at most one jump in this time. */
const JUMP_MS = 60;

export class Track {
  /** Calls `jump` with the share of the track, from 0 to 1, where somebody wants to be. */
  constructor(box, jump) {
    this.box = box;
    this.thumb = box.firstElementChild;
    this.jump = jump;
    this.isWaiting = false;
    box.addEventListener("pointerdown", (event) => {
      box.setPointerCapture(event.pointerId);
      this.#go(event);
    });
    box.addEventListener("pointermove", (event) => {
      if (!box.hasPointerCapture(event.pointerId) || this.isWaiting) return;
      this.isWaiting = true;
      setTimeout(() => (this.isWaiting = false), JUMP_MS);
      this.#go(event);
    });
  }

  #go({ clientY }) {
    const { top, height } = this.box.getBoundingClientRect();
    this.jump(Math.min(Math.max((clientY - top) / height, 0), 1));
  }

  /** Put the thumb where `list` is. */
  draw(list) {
    const { first, last } = list.range;
    const span = Math.max(last - first, 1);
    const top = list.topMessage?.sequence ?? first;
    const visible = Math.max((list.bottom ?? last) - top, 0);
    const height = Math.max((visible / span) * this.box.clientHeight, THUMB_MIN);
    const room = this.box.clientHeight - height;
    const share = (top - first) / Math.max(span - visible, 1);
    const place = list.isAtEnd ? room : Math.min(Math.max(share * room, 0), room);
    this.thumb.style.height = `${height}px`;
    this.thumb.style.transform = `translateY(${place}px)`;
    this.box.setAttribute("aria-valuemin", first);
    this.box.setAttribute("aria-valuemax", Math.max(last, first));
    this.box.setAttribute("aria-valuenow", Math.min(Math.max(top, first), Math.max(last, first)));
    this.box.hidden = list.rows.isStart && list.rows.isEnd && list.box.scrollHeight <= list.box.clientHeight;
  }
}
