for (const time of document.querySelectorAll('time')) {
  const at = new Date(time.dateTime), two = n => String(n).padStart(2, '0')
  const east = -at.getTimezoneOffset(), off = Math.abs(east)
  time.textContent = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ` +
    `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())} ` +
    `${east < 0 ? '-' : '+'}${two(Math.floor(off / 60))}:${two(off % 60)}`
}
if (document.body.dataset.refresh) {
  // Do not reload while the reader types, has the focus elsewhere on the page, or has the tab hidden.
  setInterval(() => {
    if (!document.hidden && document.activeElement === document.body) location.reload()
  }, document.body.dataset.refresh * 1000)
}
