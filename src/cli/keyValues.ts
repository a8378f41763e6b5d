/** Splits `a=b,c=d` at its commas; a doubled comma is one comma of the value. */
export function splitWords(text: string): string[] {
  const words: string[] = [];
  let word = '';
  for (let index = 0; index < text.length; index++) {
    if (text[index] === ',' && text[index + 1] !== ',') {
      words.push(word);
      word = '';
    } else {
      word += text.charAt(index);
      index += text[index] === ',' ? 1 : 0;
    }
  }
  return [...words, word];
}
